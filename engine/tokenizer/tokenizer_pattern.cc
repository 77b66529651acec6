#include "engine/tokenizer/tokenizer_pattern.h"

#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"

namespace moelight {

absl::StatusOr<TokenizerPattern> TokenizerPattern::FromJson(const nlohmann::json& config,
                                                            const std::string& section) {
  const auto field = config.find("pattern");
  if (field == config.end() || !field->is_object() || field->size() != 1 ||
      !field->begin()->is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat(section, R"(.pattern is neither {"String": "..."} nor {"Regex": "..."})"));
  }
  const std::string& kind = field->begin().key();
  const auto& text = field->begin()->get_ref<const std::string&>();
  TokenizerPattern pattern;
  if (kind == "Regex") {
    auto regex = UnicodeRegex::Compile(text);
    if (!regex.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(section, ".pattern: ", regex.status().message()));
    }
    pattern.regex_ = *std::move(regex);
  } else if (kind == "String" && !text.empty()) {
    pattern.literal_ = text;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(section, ".pattern: ", kind == "String" ? "empty string" : kind,
                     " is not supported; supported: String (not empty), Regex"));
  }
  return pattern;
}

absl::Status TokenizerPattern::FindAll(absl::string_view text,
                                       std::vector<ByteSpan>* matches) const {
  if (regex_ != nullptr) return regex_->FindAll(text, matches);
  for (size_t pos = 0; (pos = text.find(literal_, pos)) != absl::string_view::npos;) {
    matches->push_back({pos, pos + literal_.size()});
    pos += literal_.size();
  }
  return absl::OkStatus();
}

}  // namespace moelight
