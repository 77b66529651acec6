#include "engine/tokenizer/normalizer.h"

#include <utility>
#include <vector>

#include <utf8proc.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/normalizer_rewriter.h"
#include "engine/tokenizer/normalizer_unicode.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "engine/tokenizer/tokenizer_pattern.h"
#include "engine/tokenizer/unicode.h"

namespace moelight {
namespace {

using nlohmann::json;
using NormalizerOr = absl::StatusOr<std::unique_ptr<Normalizer>>;

class UnicodeFormNormalizer : public Normalizer {
 public:
  explicit UnicodeFormNormalizer(NormalizationForm form) : form_(form) {}
  absl::Status Apply(NormalizedText* text) const override { return NormalizeUnicode(form_, text); }

 private:
  const NormalizationForm form_;
};

template <NormalizationForm kForm>
NormalizerOr MakeUnicodeForm(const json&, const std::string&) {
  return std::make_unique<UnicodeFormNormalizer>(kForm);
}

class LowercaseNormalizer : public Normalizer {
 public:
  static NormalizerOr Make(const json&, const std::string&) {
    return std::make_unique<LowercaseNormalizer>();
  }
  absl::Status Apply(NormalizedText* text) const override {
    NormalizedTextRewriter rewriter(text);
    const absl::string_view source = rewriter.source();
    std::string lower;
    for (size_t pos = 0, next = 0; pos < source.size(); pos = next) {
      next = pos + Utf8Length(source[pos]);
      const char32_t character = DecodeUtf8(source, pos);
      lower.clear();
      if (character == kCapitalIWithDot) {  // the one character that lowercases to two
        lower = "i\xCC\x87";
      } else {
        AppendUtf8(utf8proc_tolower(static_cast<utf8proc_int32_t>(character)), &lower);
      }
      rewriter.Replace(pos, next, lower);
    }
    rewriter.Finish();
    return absl::OkStatus();
  }

 private:
  static constexpr char32_t kCapitalIWithDot = 0x130;
};

class PrependNormalizer : public Normalizer {
 public:
  static NormalizerOr Make(const json& config, const std::string& section) {
    ASSIGN_OR_RETURN(std::string content, StringField(config, section, "prepend", ""));
    return std::make_unique<PrependNormalizer>(std::move(content));
  }
  explicit PrependNormalizer(std::string content) : content_(std::move(content)) {}
  absl::Status Apply(NormalizedText* text) const override {
    if (text->text.empty()) return absl::OkStatus();
    text->text.insert(0, content_);
    if (!text->plain.empty()) text->plain.insert(0, content_.size(), '\0');
    return absl::OkStatus();
  }

 private:
  const std::string content_;
};

class ReplaceNormalizer : public Normalizer {
 public:
  static NormalizerOr Make(const json& config, const std::string& section) {
    ASSIGN_OR_RETURN(TokenizerPattern pattern, TokenizerPattern::FromJson(config, section));
    ASSIGN_OR_RETURN(std::string content, StringField(config, section, "content", ""));
    return std::make_unique<ReplaceNormalizer>(std::move(pattern), std::move(content));
  }
  ReplaceNormalizer(TokenizerPattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  absl::Status Apply(NormalizedText* text) const override {
    std::vector<ByteSpan> matches;
    RETURN_IF_ERROR(pattern_.FindAll(text->text, &matches));
    NormalizedTextRewriter rewriter(text);
    size_t done = 0;
    for (const ByteSpan& match : matches) {
      rewriter.Copy(done, match.begin);
      rewriter.Replace(match.begin, match.end, content_);
      done = match.end;
    }
    rewriter.Copy(done, rewriter.source().size());
    rewriter.Finish();
    return absl::OkStatus();
  }

 private:
  const TokenizerPattern pattern_;
  const std::string content_;
};

class StripNormalizer : public Normalizer {
 public:
  static NormalizerOr Make(const json& config, const std::string& section) {
    ASSIGN_OR_RETURN(const bool left, BoolField(config, section, "strip_left", false));
    ASSIGN_OR_RETURN(const bool right, BoolField(config, section, "strip_right", false));
    return std::make_unique<StripNormalizer>(left, right);
  }
  StripNormalizer(bool left, bool right) : left_(left), right_(right) {}
  absl::Status Apply(NormalizedText* text) const override {
    NormalizedTextRewriter rewriter(text);
    const absl::string_view source = rewriter.source();
    size_t begin = 0;
    size_t end = source.size();
    while (left_ && begin < end && IsWhiteSpace(DecodeUtf8(source, begin))) {
      begin += Utf8Length(source[begin]);
    }
    while (right_ && begin < end) {
      const size_t last = PreviousUtf8(source, end);
      if (!IsWhiteSpace(DecodeUtf8(source, last))) break;
      end = last;
    }
    rewriter.Copy(begin, end);
    rewriter.Finish();
    return absl::OkStatus();
  }

 private:
  const bool left_;
  const bool right_;
};

class SequenceNormalizer : public Normalizer {
 public:
  static NormalizerOr Make(const json& config, const std::string& section);
  explicit SequenceNormalizer(std::vector<std::unique_ptr<Normalizer>> steps)
      : steps_(std::move(steps)) {}
  absl::Status Apply(NormalizedText* text) const override {
    for (const auto& step : steps_) RETURN_IF_ERROR(step->Apply(text));
    return absl::OkStatus();
  }

 private:
  const std::vector<std::unique_ptr<Normalizer>> steps_;
};

constexpr ComponentType<std::unique_ptr<Normalizer>> kTypes[] = {
    {"NFC", MakeUnicodeForm<NormalizationForm::kNfc>},
    {"NFD", MakeUnicodeForm<NormalizationForm::kNfd>},
    {"NFKC", MakeUnicodeForm<NormalizationForm::kNfkc>},
    {"NFKD", MakeUnicodeForm<NormalizationForm::kNfkd>},
    {"Lowercase", LowercaseNormalizer::Make},
    {"Prepend", PrependNormalizer::Make},
    {"Replace", ReplaceNormalizer::Make},
    {"Strip", StripNormalizer::Make},
    {"Sequence", SequenceNormalizer::Make},
};

NormalizerOr SequenceNormalizer::Make(const json& config, const std::string& section) {
  ASSIGN_OR_RETURN(auto steps, MakeComponents(kTypes, config, section, "normalizers"));
  return std::make_unique<SequenceNormalizer>(std::move(steps));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Normalizer>> MakeNormalizer(const json& config) {
  if (config.is_null()) {
    return std::make_unique<SequenceNormalizer>(std::vector<std::unique_ptr<Normalizer>>());
  }
  return MakeComponent(kTypes, config, "normalizer");
}

}  // namespace moelight
