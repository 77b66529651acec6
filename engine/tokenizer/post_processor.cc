#include "engine/tokenizer/post_processor.h"

#include <string>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/tokenizer_json.h"

namespace moelight {
namespace {

using nlohmann::json;

// The string or object under `key` of an object; null if there is none.
const json* Find(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() ? nullptr : &*it;
}

absl::StatusOr<PostProcessor> MakeNothing(const json&, const std::string&) {
  return PostProcessor();
}

// Appends the ids that the template's table gives for the special token `name`.
absl::Status AppendSpecialToken(const json& config, const std::string& section,
                                const std::string& name, std::vector<TokenId>* ids) {
  const json* const table = Find(config, "special_tokens");
  const json* const entry = table == nullptr ? nullptr : Find(*table, name.c_str());
  const json* const entry_ids = entry == nullptr ? nullptr : Find(*entry, "ids");
  if (entry_ids == nullptr || !entry_ids->is_array()) {
    return absl::InvalidArgumentError(
        absl::StrCat(section, ".special_tokens has no ids for \"", name, "\""));
  }
  for (const json& id : *entry_ids) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= kMaxVocabSize) {
      return absl::InvalidArgumentError(absl::StrCat(section, ".special_tokens: id ", id.dump(),
                                                     " of \"", name, "\" is not in [0, ",
                                                     kMaxVocabSize, ")"));
    }
    ids->push_back(id.get<TokenId>());
  }
  return absl::OkStatus();
}

absl::StatusOr<PostProcessor> MakeTemplate(const json& config, const std::string& section) {
  ASSIGN_OR_RETURN(const json* pieces, ArrayField(config, section, "single"));
  PostProcessor result;
  int num_texts = 0;
  for (const json& piece : *pieces) {
    const json* const special = Find(piece, "SpecialToken");
    const json* const text = Find(piece, "Sequence");
    const json* const id = special != nullptr ? Find(*special, "id")
                           : text != nullptr  ? Find(*text, "id")
                                              : nullptr;
    if (id == nullptr || !id->is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat(section, ".single: a piece is neither a SpecialToken nor a Sequence"));
    }
    if (special != nullptr) {
      RETURN_IF_ERROR(AppendSpecialToken(config, section, id->get<std::string>(),
                                         num_texts == 0 ? &result.before : &result.after));
    } else {
      num_texts += id->get_ref<const std::string&>() == "A"
                       ? 1
                       : 2;  // "B" has no place in the template of a single text
    }
  }
  if (num_texts != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(section, ".single does not have the sequence A exactly once"));
  }
  return result;
}

absl::StatusOr<PostProcessor> MakeSequence(const json& config, const std::string& section);

constexpr ComponentType<PostProcessor> kTypes[] = {
    {"TemplateProcessing", MakeTemplate},
    {"ByteLevel", MakeNothing},
    {"Sequence", MakeSequence},
};

// Each step wraps what the steps before it made.
absl::StatusOr<PostProcessor> MakeSequence(const json& config, const std::string& section) {
  ASSIGN_OR_RETURN(const auto steps, MakeComponents(kTypes, config, section, "processors"));
  PostProcessor result;
  for (const PostProcessor& step : steps) {
    result.before.insert(result.before.begin(), step.before.begin(), step.before.end());
    result.after.insert(result.after.end(), step.after.begin(), step.after.end());
  }
  return result;
}

}  // namespace

absl::StatusOr<PostProcessor> MakePostProcessor(const json& config) {
  if (config.is_null()) return PostProcessor();
  return MakeComponent(kTypes, config, "post_processor");
}

}  // namespace moelight
