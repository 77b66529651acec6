#include "engine/tokenizer/tokenizer_json.h"

#include <utility>

#include <absl/strings/match.h>
#include <absl/strings/str_join.h>

namespace moelight {
namespace {

using nlohmann::json;

// Receives the parser's events. Returning false stops the parser; `status_` then says why.
class TokenizerJsonHandler : public nlohmann::json_sax<json> {
 public:
  explicit TokenizerJsonHandler(TokenizerJson* out) : out_(out) {}
  const absl::Status& status() const { return status_; }

  bool null() override { return Scalar(nullptr); }
  bool boolean(bool value) override { return Scalar(value); }
  bool number_float(number_float_t value, const string_t&) override { return Scalar(value); }
  bool binary(binary_t&) override { return Fail("binary value"); }

  bool number_integer(number_integer_t value) override {
    return region_ == Region::kVocab ? VocabId(value) : Scalar(value);
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (region_ != Region::kVocab) return Scalar(value);
    return VocabId(value > INT64_MAX ? INT64_MAX : static_cast<int64_t>(value));
  }
  bool string(string_t& value) override {
    if (region_ == Region::kMerges) return SpacedMerge(value);
    if (region_ == Region::kMergePair) {
      ++pair_size_;
      out_->merge_parts.Add(value);
      return true;
    }
    return Scalar(std::move(value));
  }
  bool key(string_t& name) override {
    if (region_ == Region::kConfig && open_.back()->contains(name)) {
      return Fail(absl::StrCat("key \"", name, "\" appears twice in one object"));
    }
    key_ = std::move(name);
    return true;
  }

  bool start_object(size_t) override {
    if (!Enter()) return false;
    if (region_ == Region::kIgnored) return true;
    if (region_ != Region::kConfig) return Misplaced();
    const bool is_vocab = InModel() && key_ == "vocab";
    if (!Open(json::value_t::object)) return false;
    if (is_vocab) region_ = Region::kVocab;
    return true;
  }
  bool end_object() override {
    --depth_;
    if (region_ == Region::kIgnored) return true;
    if (region_ == Region::kVocab) region_ = Region::kConfig;
    open_.pop_back();
    return true;
  }
  bool start_array(size_t) override {
    if (!Enter()) return false;
    switch (region_) {
      case Region::kIgnored:
        return true;
      case Region::kMerges:
        region_ = Region::kMergePair;
        pair_size_ = 0;
        return true;
      case Region::kConfig:
        break;
      default:
        return Misplaced();
    }
    const bool is_merges = InModel() && key_ == "merges";
    // A model that is no BPE (refused later, by its type) keeps its vocabulary in an array.
    const bool is_other_vocab = InModel() && key_ == "vocab";
    if (!Open(json::value_t::array)) return false;
    if (is_merges) region_ = Region::kMerges;
    if (is_other_vocab) {
      region_ = Region::kIgnored;
      ignored_depth_ = depth_;
    }
    return true;
  }
  bool end_array() override {
    --depth_;
    if (region_ == Region::kIgnored && depth_ + 1 != ignored_depth_) return true;
    if (region_ == Region::kMergePair) {
      region_ = Region::kMerges;
      return pair_size_ == 2 ? CheckNumMerges()
                             : Fail(absl::StrCat("model.merges[", NumMerges(), "] has ", pair_size_,
                                                 " parts, not 2"));
    }
    region_ = Region::kConfig;
    open_.pop_back();
    return true;
  }
  bool parse_error(size_t offset, const std::string&, const json::exception& error) override {
    return Fail(absl::StrCat("not JSON at byte ", offset, ": ", error.what()));
  }

 private:
  enum class Region { kConfig, kVocab, kMerges, kMergePair, kIgnored };

  bool Fail(absl::string_view message) {
    status_ = absl::InvalidArgumentError(message);
    return false;
  }
  bool Misplaced() {
    if (region_ == Region::kVocab) {
      return Fail(absl::StrCat("model.vocab: the id of \"", key_, "\" is not an integer"));
    }
    return Fail(absl::StrCat("model.merges[", NumMerges(),
                             "] is neither \"left right\" nor [\"left\", \"right\"]"));
  }
  bool Enter() {
    if (++depth_ <= kMaxTokenizerJsonDepth) return true;
    return Fail(absl::StrCat("JSON is nested deeper than ", kMaxTokenizerJsonDepth));
  }
  bool InModel() const { return open_.size() == 2 && open_[0]->is_object() && top_key_ == "model"; }

  // Adds `value` to the innermost open container and returns its place; null at the limit.
  json* Insert(json value) {
    if (++num_values_ > kMaxConfigValues) {
      Fail(absl::StrCat("more than ", kMaxConfigValues, " JSON values outside the vocabulary"));
      return nullptr;
    }
    if (open_.empty()) {
      out_->config = std::move(value);
      return &out_->config;
    }
    json* const parent = open_.back();
    if (parent->is_array()) {
      parent->push_back(std::move(value));
      return &parent->back();
    }
    json& place = (*parent)[key_];
    place = std::move(value);
    return &place;
  }
  bool Open(json::value_t type) {
    if (open_.size() == 1) top_key_ = key_;
    json* const place = Insert(json(type));
    if (place == nullptr) return false;
    open_.push_back(place);
    return true;
  }
  bool Scalar(json value) {
    if (region_ == Region::kIgnored) return true;
    if (region_ != Region::kConfig) return Misplaced();
    return Insert(std::move(value)) != nullptr;
  }

  bool VocabId(int64_t id) {
    if (out_->vocab_ids.size() == kMaxVocabSize) {
      return Fail(absl::StrCat("model.vocab has more than ", kMaxVocabSize, " tokens"));
    }
    out_->vocab_tokens.Add(key_);
    out_->vocab_ids.push_back(id);
    return true;
  }

  int64_t NumMerges() const { return static_cast<int64_t>(out_->merge_parts.size() / 2); }
  bool CheckNumMerges() {
    return NumMerges() <= kMaxMerges ||
           Fail(absl::StrCat("model.merges has more than ", kMaxMerges, " merges"));
  }
  // The older spelling. The header line of merges.txt sometimes came along.
  bool SpacedMerge(absl::string_view merge) {
    if (absl::StartsWith(merge, "#version")) return true;
    const size_t space = merge.find(' ');
    if (space == absl::string_view::npos || merge.find(' ', space + 1) != absl::string_view::npos) {
      return Misplaced();
    }
    out_->merge_parts.Add(merge.substr(0, space));
    out_->merge_parts.Add(merge.substr(space + 1));
    return CheckNumMerges();
  }

  TokenizerJson* const out_;
  absl::Status status_;
  Region region_ = Region::kConfig;
  std::vector<json*> open_;  // open containers of the configuration, outermost first
  std::string key_;          // last key read
  std::string top_key_;      // key of the outermost object that open_[1] stands under
  int depth_ = 0;
  int ignored_depth_ = 0;  // depth of the array being ignored
  int64_t num_values_ = 0;
  int pair_size_ = 0;  // parts read of the current merge
};

absl::Status WrongType(absl::string_view section, const char* key, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(section, ".", key, " is not ", expected));
}

// The value under `key`; null if it is absent or JSON null.
const json* FindField(const json& config, const char* key) {
  const auto it = config.find(key);
  return it == config.end() || it->is_null() ? nullptr : &*it;
}

}  // namespace

absl::StatusOr<TokenizerJson> ParseTokenizerJson(absl::string_view text) {
  if (text.size() > kMaxTokenizerJsonBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("file has ", text.size(), " bytes, limit ", kMaxTokenizerJsonBytes));
  }
  TokenizerJson result;
  TokenizerJsonHandler handler(&result);
  try {
    if (!json::sax_parse(text.begin(), text.end(), &handler)) return handler.status();
  } catch (const json::exception& error) {  // a number out of range, for one
    return absl::InvalidArgumentError(absl::StrCat("not JSON: ", error.what()));
  }
  if (!result.config.is_object()) return absl::InvalidArgumentError("file is not a JSON object");
  return result;
}

absl::StatusOr<bool> BoolField(const json& config, absl::string_view section, const char* key,
                               bool fallback) {
  const json* const field = FindField(config, key);
  if (field == nullptr) return fallback;
  if (!field->is_boolean()) return WrongType(section, key, "true or false");
  return field->get<bool>();
}

absl::StatusOr<std::string> StringField(const json& config, absl::string_view section,
                                        const char* key, absl::string_view fallback) {
  const json* const field = FindField(config, key);
  if (field == nullptr) return std::string(fallback);
  if (!field->is_string()) return WrongType(section, key, "a string");
  return field->get<std::string>();
}

absl::StatusOr<int64_t> CountField(const json& config, absl::string_view section, const char* key,
                                   int64_t limit) {
  const json* const field = FindField(config, key);
  if (field == nullptr || !field->is_number_unsigned() ||
      field->get<uint64_t>() > static_cast<uint64_t>(limit)) {
    return WrongType(section, key, absl::StrCat("an integer from 0 to ", limit));
  }
  return field->get<int64_t>();
}

absl::StatusOr<const json*> ArrayField(const json& config, absl::string_view section,
                                       const char* key) {
  const json* const field = FindField(config, key);
  if (field == nullptr || !field->is_array()) return WrongType(section, key, "an array");
  return field;
}

absl::StatusOr<std::string> TypeField(const json& config, absl::string_view section) {
  if (!config.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(section, " is not an object"));
  }
  const json* const field = FindField(config, "type");
  if (field == nullptr || !field->is_string()) return WrongType(section, "type", "a string");
  return field->get<std::string>();
}

absl::Status UnsupportedType(absl::string_view section, absl::string_view type,
                             const std::vector<absl::string_view>& supported) {
  return absl::InvalidArgumentError(
      absl::StrCat(section, " type \"", type,
                   "\" is not supported; supported: ", absl::StrJoin(supported, ", ")));
}

}  // namespace moelight
