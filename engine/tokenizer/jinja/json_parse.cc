#include <limits>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/json.h"

namespace moelight::jinja {
namespace {

using Json = nlohmann::json;

// Builds values from the parser's events, on a stack of its own: the depth of hostile JSON costs
// no stack of ours. A handler that returns false ends the parse.
class ValueBuilder : public nlohmann::json_sax<Json> {
 public:
  ValueBuilder() : meter_(0, std::numeric_limits<int64_t>::max() / 64) {}

  bool null() override { return Add(Value()); }
  bool boolean(bool value) override { return Add(Value::Bool(value)); }
  bool number_integer(number_integer_t value) override { return Add(Value::Int(value)); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Add(Value::Float(static_cast<double>(value)));
    }
    return Add(Value::Int(static_cast<int64_t>(value)));
  }
  bool number_float(number_float_t value, const string_t&) override {
    return Add(Value::Float(value));
  }
  bool string(string_t& value) override { return Add(RequestString(value)); }
  bool binary(binary_t&) override { return Fail("binary values are not JSON"); }

  bool start_object(size_t) override { return Open(true); }
  bool start_array(size_t) override { return Open(false); }
  bool key(string_t& value) override {
    open_.back().key = RequestString(value);
    return true;
  }
  bool end_object() override {
    Level level = Close();
    return Add(Value::Of(DictPtr(std::make_shared<Dict>(std::move(level.dict)))));
  }
  bool end_array() override {
    Level level = Close();
    absl::StatusOr<Value> list = MakeList(meter_, std::move(level.items));
    return list.ok() ? Add(*std::move(list)) : Fail(list.status().message());
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    const absl::string_view what = error.what();
    // The library puts its own error number in brackets first.
    const size_t text = what.find("] ");
    return Fail(absl::StrCat("at byte ", position, ": ",
                             text == absl::string_view::npos ? what : what.substr(text + 2)));
  }

  absl::StatusOr<Value> Finish() {
    RETURN_IF_ERROR(error_);
    return std::move(root_);
  }

 private:
  struct Level {
    bool is_object = false;
    Dict dict;
    std::vector<Value> items;
    Value key;
  };

  static Value RequestString(std::string& value) {
    return Value::String(Str::FromRequest(std::move(value)));
  }

  bool Fail(absl::string_view message) {
    if (error_.ok()) error_ = absl::InvalidArgumentError(message);
    return false;
  }

  bool Open(bool is_object) {
    if (open_.size() >= kMaxJsonDepth) {
      return Fail(absl::StrCat("nested deeper than the limit of ", kMaxJsonDepth));
    }
    open_.push_back({.is_object = is_object, .dict = {}, .items = {}, .key = {}});
    return true;
  }

  Level Close() {
    Level level = std::move(open_.back());
    open_.pop_back();
    return level;
  }

  bool Add(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return true;
    }
    Level& level = open_.back();
    if (!level.is_object) {
      level.items.push_back(std::move(value));
      return true;
    }
    const absl::Status status = level.dict.Set(std::move(level.key), std::move(value));
    return status.ok() || Fail(status.message());
  }

  Meter meter_;  // the request's size is bounded where it arrives, so this one never runs out
  std::vector<Level> open_;
  Value root_;
  absl::Status error_;
};

}  // namespace

absl::StatusOr<Value> ParseRequestJson(absl::string_view text) {
  ValueBuilder builder;
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.Finish();
}

}  // namespace moelight::jinja
