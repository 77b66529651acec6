// ParseTokenizerJson: reads tokenizer.json with limits on everything a hostile file could inflate,
// and the helpers with which each component reads its part of it.
//
// The vocabulary and the merges are most of the file. They go straight into flat lists; only the
// rest becomes a JSON tree.
//
// Errors: InvalidArgument naming the section, the item and the rule.
#ifndef MOELIGHT_ENGINE_TOKENIZER_TOKENIZER_JSON_H_
#define MOELIGHT_ENGINE_TOKENIZER_TOKENIZER_JSON_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>
#include <nlohmann/json.hpp>

#include "engine/base/status_macros.h"

namespace moelight {

// The largest published files have 33 MiB, 262,144 tokens and 580,604 merges. A file at these
// limits loads in about a second.
inline constexpr size_t kMaxTokenizerJsonBytes = 64 << 20;
inline constexpr int64_t kMaxVocabSize = 1 << 20;  // tokens, and the largest id plus one
inline constexpr int64_t kMaxMerges = 768 << 10;
inline constexpr int kMaxTokenizerJsonDepth = 64;     // arrays and objects within each other
inline constexpr int64_t kMaxConfigValues = 1 << 20;  // JSON values outside vocabulary and merges

// Strings end to end in one buffer: no allocation per string. Views survive a move of the list.
class StringList {
 public:
  void Add(absl::string_view text) {
    text_.insert(text_.end(), text.begin(), text.end());
    ends_.push_back(static_cast<uint32_t>(text_.size()));
  }
  size_t size() const { return ends_.size(); }
  absl::string_view operator[](size_t i) const {
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return {text_.data() + begin, ends_[i] - begin};
  }

 private:
  std::vector<char> text_;      // not a std::string: views must survive a move, however short it is
  std::vector<uint32_t> ends_;  // 32 bits hold any offset within kMaxTokenizerJsonBytes
};

struct TokenizerJson {
  nlohmann::json config;           // the file without model.vocab and model.merges
  StringList vocab_tokens;         // model.vocab, in file order
  std::vector<int64_t> vocab_ids;  // as written: the model checks their range
  StringList merge_parts;          // model.merges: left, right, left, right, ...
};

absl::StatusOr<TokenizerJson> ParseTokenizerJson(absl::string_view text);

// Fields of the object `config`, whose place in the file is `section` ("normalizer"). An absent
// field or null gives `fallback`; another type is an error.
absl::StatusOr<bool> BoolField(const nlohmann::json& config, absl::string_view section,
                               const char* key, bool fallback);
absl::StatusOr<std::string> StringField(const nlohmann::json& config, absl::string_view section,
                                        const char* key, absl::string_view fallback);
// A count in [0, limit]; the field must be there.
absl::StatusOr<int64_t> CountField(const nlohmann::json& config, absl::string_view section,
                                   const char* key, int64_t limit);
// The array under `key`; the field must be there.
absl::StatusOr<const nlohmann::json*> ArrayField(const nlohmann::json& config,
                                                 absl::string_view section, const char* key);
// The string under "type".
absl::StatusOr<std::string> TypeField(const nlohmann::json& config, absl::string_view section);

absl::Status UnsupportedType(absl::string_view section, absl::string_view type,
                             const std::vector<absl::string_view>& supported);

// One row per supported "type" of a kind of component.
template <typename Component>
struct ComponentType {
  absl::string_view type;
  absl::StatusOr<Component> (*make)(const nlohmann::json& config, const std::string& section);
};

// Makes the component that `config` describes, by its "type".
template <typename Component, size_t kNumTypes>
absl::StatusOr<Component> MakeComponent(const ComponentType<Component> (&types)[kNumTypes],
                                        const nlohmann::json& config, const std::string& section) {
  ASSIGN_OR_RETURN(const std::string type, TypeField(config, section));
  std::vector<absl::string_view> supported;
  for (const ComponentType<Component>& row : types) {
    if (row.type == type) return row.make(config, section);
    supported.push_back(row.type);
  }
  return UnsupportedType(section, type, supported);
}

// Makes every component of the array under `key`, as the "Sequence" types have them.
template <typename Component, size_t kNumTypes>
absl::StatusOr<std::vector<Component>> MakeComponents(
    const ComponentType<Component> (&types)[kNumTypes], const nlohmann::json& config,
    const std::string& section, const char* key) {
  ASSIGN_OR_RETURN(const nlohmann::json* items, ArrayField(config, section, key));
  std::vector<Component> components;
  for (const nlohmann::json& item : *items) {
    ASSIGN_OR_RETURN(
        Component component,
        MakeComponent(types, item, absl::StrCat(section, ".", key, "[", components.size(), "]")));
    components.push_back(std::move(component));
  }
  return components;
}

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_TOKENIZER_JSON_H_
