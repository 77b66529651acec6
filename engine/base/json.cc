#include "engine/base/json.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

namespace moelight {
namespace {

using Json = nlohmann::json;

// Builds the DOM from parser events. Each event returns false to stop the parser, after which
// `error()` says why. The parser itself keeps its state on the heap, so depth costs no stack.
class DomBuilder : public nlohmann::json_sax<Json> {
 public:
  DomBuilder(absl::string_view text, const JsonLimits& limits) : text_(text), limits_(limits) {}

  bool null() override { return Add(nullptr) != nullptr; }
  bool boolean(bool value) override { return Add(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return Add(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return Add(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override {
    return Add(value) != nullptr;
  }
  bool string(string_t& value) override { return Add(std::move(value)) != nullptr; }
  bool binary(binary_t& value) override { return Add(std::move(value)) != nullptr; }

  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    auto [member, inserted] = open_.back()->emplace(name, nullptr);
    if (!inserted && limits_.unique_keys) {
      error_ = absl::StrCat(": key \"", Printable(name), "\" is given twice in one object");
      return false;
    }
    member_ = &*member;
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& exception) override {
    error_ = absl::StrCat(Location(position), ": not valid JSON: ", Reason(exception.what()));
    return false;
  }

  // ":LINE:COLUMN", both from 1, of the last of the first `position` bytes.
  std::string Location(size_t position) const {
    const absl::string_view before = text_.substr(0, position == 0 ? 0 : position - 1);
    const int64_t line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t newline = before.rfind('\n');
    const size_t column =
        newline == absl::string_view::npos ? before.size() + 1 : before.size() - newline;
    return absl::StrCat(":", line, ":", column);
  }

  const std::string& error() const { return error_; }
  Json TakeRoot() { return std::move(root_); }

 private:
  // Places a value where the parser is; the pointer stays valid while the value is open, because
  // nothing is added to its parent meanwhile.
  template <typename Value>
  Json* Add(Value&& value) {
    if (open_.empty()) {
      root_ = std::forward<Value>(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->emplace_back(std::forward<Value>(value));
      return &open_.back()->back();
    }
    *member_ = std::forward<Value>(value);
    return member_;
  }

  bool Open(Json container) {
    if (open_.size() >= static_cast<size_t>(limits_.max_depth)) {
      error_ = absl::StrCat(": nested deeper than ", limits_.max_depth, " levels");
      return false;
    }
    open_.push_back(Add(std::move(container)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  // What the library says, less its own location and the text it quotes, which may be long and
  // need not be UTF-8.
  static std::string Reason(absl::string_view what) {
    const size_t id = what.find("] ");
    if (id != absl::string_view::npos) what.remove_prefix(id + 2);
    const size_t location = what.find(": ");
    if (location != absl::string_view::npos) what.remove_prefix(location + 2);
    const size_t quoted = std::min(what.find("; last read"), what.find(": '"));
    return Printable(what.substr(0, quoted));
  }

  static std::string Printable(absl::string_view text) {
    constexpr size_t kMaxBytes = 200;  // names in messages, not whole documents
    std::string printable(text.substr(0, kMaxBytes));
    for (char& c : printable) {
      if (c < 0x20 || c > 0x7e) c = '?';
    }
    return printable;
  }

  const absl::string_view text_;
  const JsonLimits limits_;
  Json root_;
  std::vector<Json*> open_;  // containers around the current position, outermost first
  Json* member_ = nullptr;   // value of the last key of the innermost object
  std::string error_;
};

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, absl::string_view source_name,
                                         const JsonLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(source_name, ": ", text.size(), " bytes of JSON, limit ", limits.max_bytes));
  }
  DomBuilder builder(text, limits);
  // The library takes a NUL for the end of the text and would ignore whatever follows.
  if (const size_t nul = text.find('\0'); nul != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(source_name, builder.Location(nul + 1), ": not valid JSON: NUL byte"));
  }
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return absl::InvalidArgumentError(absl::StrCat(source_name, builder.error()));
  }
  return builder.TakeRoot();
}

}  // namespace moelight
