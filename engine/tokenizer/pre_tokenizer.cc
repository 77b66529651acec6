#include "engine/tokenizer/pre_tokenizer.h"

#include <utility>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/types/span.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/bpe_bytes.h"
#include "engine/tokenizer/pre_tokenizer_split.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "engine/tokenizer/tokenizer_pattern.h"
#include "engine/tokenizer/unicode.h"
#include "engine/tokenizer/unicode_regex.h"

namespace moelight {
namespace {

using nlohmann::json;
using PreTokenizerOr = absl::StatusOr<std::unique_ptr<PreTokenizer>>;

// What the ByteLevel type splits by unless use_regex is false: the words of GPT-2.
constexpr absl::string_view kByteLevelRegex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Appends the pieces of `word` (relative to its begin) that are not empty.
void AppendPieces(const PreToken& word, absl::Span<const ByteSpan> pieces,
                  std::vector<PreToken>* words) {
  for (const ByteSpan& piece : pieces) {
    if (piece.begin == piece.end) continue;
    words->push_back(
        {word.begin + piece.begin, word.begin + piece.end, word.at_text_start && piece.begin == 0});
  }
}

// Replaces each word by the pieces that `cut(text of the word, &matches)` and `behavior` make.
template <typename FindMatches>
absl::Status SplitWords(SplitBehavior behavior, bool invert, const FindMatches& find_matches,
                        PreTokens* tokens) {
  std::vector<PreToken> words;
  std::vector<ByteSpan> matches;
  for (const PreToken& word : tokens->words) {
    const absl::string_view text = tokens->Word(word);
    matches.clear();
    RETURN_IF_ERROR(find_matches(text, &matches));
    AppendPieces(word, SplitPieces(PartsFromMatches(matches, text.size(), invert), behavior),
                 &words);
  }
  tokens->words = std::move(words);
  return absl::OkStatus();
}

// As SplitWords, where every character that fulfils `predicate` is a delimiter.
template <typename Predicate>
absl::Status SplitAtCharacters(SplitBehavior behavior, const Predicate& predicate,
                               PreTokens* tokens) {
  const auto find_matches = [&](absl::string_view text, std::vector<ByteSpan>* matches) {
    for (size_t pos = 0, next = 0; pos < text.size(); pos = next) {
      next = pos + Utf8Length(text[pos]);
      if (predicate(DecodeUtf8(text, pos))) matches->push_back({pos, next});
    }
    return absl::OkStatus();
  };
  return SplitWords(behavior, /*invert=*/false, find_matches, tokens);
}

class SplitPreTokenizer : public PreTokenizer {
 public:
  static PreTokenizerOr Make(const json& config, const std::string& section) {
    ASSIGN_OR_RETURN(TokenizerPattern pattern, TokenizerPattern::FromJson(config, section));
    ASSIGN_OR_RETURN(const std::string name, StringField(config, section, "behavior", ""));
    ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseSplitBehavior(name, section));
    ASSIGN_OR_RETURN(const bool invert, BoolField(config, section, "invert", false));
    return std::make_unique<SplitPreTokenizer>(std::move(pattern), behavior, invert);
  }
  SplitPreTokenizer(TokenizerPattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  absl::Status Apply(PreTokens* tokens) const override {
    const auto find_matches = [this](absl::string_view text, std::vector<ByteSpan>* matches) {
      return pattern_.FindAll(text, matches);
    };
    return SplitWords(behavior_, invert_, find_matches, tokens);
  }

 private:
  const TokenizerPattern pattern_;
  const SplitBehavior behavior_;
  const bool invert_;
};

class ByteLevelPreTokenizer : public PreTokenizer {
 public:
  static PreTokenizerOr Make(const json& config, const std::string& section) {
    ASSIGN_OR_RETURN(const bool prefix, BoolField(config, section, "add_prefix_space", true));
    ASSIGN_OR_RETURN(const bool use_regex, BoolField(config, section, "use_regex", true));
    std::unique_ptr<UnicodeRegex> regex;
    if (use_regex) {
      ASSIGN_OR_RETURN(regex, UnicodeRegex::Compile(kByteLevelRegex));
    }
    return std::make_unique<ByteLevelPreTokenizer>(prefix, std::move(regex));
  }
  ByteLevelPreTokenizer(bool add_prefix_space, std::unique_ptr<UnicodeRegex> regex)
      : add_prefix_space_(add_prefix_space), regex_(std::move(regex)) {}

  absl::Status Apply(PreTokens* tokens) const override {
    if (add_prefix_space_) AddPrefixSpaces(tokens);
    if (regex_ != nullptr) {
      const auto find_matches = [this](absl::string_view text, std::vector<ByteSpan>* matches) {
        return regex_->FindAll(text, matches);
      };
      RETURN_IF_ERROR(SplitWords(SplitBehavior::kIsolated, false, find_matches, tokens));
    }
    PreTokens mapped;
    mapped.text.reserve(tokens->text.size() + tokens->text.size() / 4);  // a space takes two bytes
    mapped.words.reserve(tokens->words.size());
    for (const PreToken& word : tokens->words) {
      const size_t begin = mapped.text.size();
      AppendByteLevel(tokens->Word(word), &mapped.text);
      mapped.words.push_back({begin, mapped.text.size(), word.at_text_start});
    }
    *tokens = std::move(mapped);
    return absl::OkStatus();
  }

 private:
  static void AddPrefixSpaces(PreTokens* tokens) {
    PreTokens spaced;
    for (const PreToken& word : tokens->words) {
      const absl::string_view text = tokens->Word(word);
      const size_t begin = spaced.text.size();
      absl::StrAppend(&spaced.text, absl::StartsWith(text, " ") ? "" : " ", text);
      spaced.words.push_back({begin, spaced.text.size(), word.at_text_start});
    }
    *tokens = std::move(spaced);
  }

  const bool add_prefix_space_;
  const std::unique_ptr<UnicodeRegex> regex_;  // null: words are not split
};

class MetaspacePreTokenizer : public PreTokenizer {
 public:
  enum class Prepend { kAlways, kFirst, kNever };

  static PreTokenizerOr Make(const json& config, const std::string& section) {
    ASSIGN_OR_RETURN(std::string replacement, StringField(config, section, "replacement", "▁"));
    if (!IsOneCharacter(replacement)) {
      return absl::InvalidArgumentError(
          absl::StrCat(section, ".replacement \"", replacement, "\" is not one character"));
    }
    // Older files say add_prefix_space instead.
    ASSIGN_OR_RETURN(const bool prefix, BoolField(config, section, "add_prefix_space", true));
    ASSIGN_OR_RETURN(const std::string scheme,
                     StringField(config, section, "prepend_scheme", prefix ? "always" : "never"));
    Prepend prepend = Prepend::kAlways;
    if (scheme == "first") {
      prepend = Prepend::kFirst;
    } else if (scheme == "never") {
      prepend = Prepend::kNever;
    } else if (scheme != "always") {
      return absl::InvalidArgumentError(
          absl::StrCat(section, ".prepend_scheme \"", scheme,
                       "\" is not supported; supported: always, first, never"));
    }
    ASSIGN_OR_RETURN(const bool split, BoolField(config, section, "split", true));
    return std::make_unique<MetaspacePreTokenizer>(std::move(replacement), prepend, split);
  }
  MetaspacePreTokenizer(std::string replacement, Prepend prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend), split_(split) {}

  absl::Status Apply(PreTokens* tokens) const override {
    PreTokens spaced;
    for (const PreToken& word : tokens->words) {
      const absl::string_view text = tokens->Word(word);
      const size_t begin = spaced.text.size();
      const bool wanted =
          prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && word.at_text_start);
      if (wanted && !absl::StartsWith(text, " ") && !absl::StartsWith(text, replacement_)) {
        spaced.text += replacement_;
      }
      for (const char c : text) {
        if (c == ' ') {
          spaced.text += replacement_;
        } else {
          spaced.text.push_back(c);
        }
      }
      spaced.words.push_back({begin, spaced.text.size(), word.at_text_start});
    }
    *tokens = std::move(spaced);
    if (!split_) return absl::OkStatus();
    const auto find_matches = [this](absl::string_view text, std::vector<ByteSpan>* matches) {
      for (size_t pos = 0; (pos = text.find(replacement_, pos)) != absl::string_view::npos;) {
        matches->push_back({pos, pos + replacement_.size()});
        pos += replacement_.size();
      }
      return absl::OkStatus();
    };
    return SplitWords(SplitBehavior::kMergedWithNext, false, find_matches, tokens);
  }

 private:
  const std::string replacement_;
  const Prepend prepend_;
  const bool split_;
};

class DigitsPreTokenizer : public PreTokenizer {
 public:
  static PreTokenizerOr Make(const json& config, const std::string& section) {
    ASSIGN_OR_RETURN(const bool individual, BoolField(config, section, "individual_digits", false));
    return std::make_unique<DigitsPreTokenizer>(individual);
  }
  explicit DigitsPreTokenizer(bool individual) : individual_(individual) {}
  absl::Status Apply(PreTokens* tokens) const override {
    return SplitAtCharacters(individual_ ? SplitBehavior::kIsolated : SplitBehavior::kContiguous,
                             IsNumeric, tokens);
  }

 private:
  const bool individual_;
};

class PunctuationPreTokenizer : public PreTokenizer {
 public:
  static PreTokenizerOr Make(const json& config, const std::string& section) {
    ASSIGN_OR_RETURN(const std::string name, StringField(config, section, "behavior", "Isolated"));
    ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseSplitBehavior(name, section));
    return std::make_unique<PunctuationPreTokenizer>(behavior);
  }
  explicit PunctuationPreTokenizer(SplitBehavior behavior) : behavior_(behavior) {}
  absl::Status Apply(PreTokens* tokens) const override {
    return SplitAtCharacters(behavior_, IsPunctuation, tokens);
  }

 private:
  const SplitBehavior behavior_;
};

class WhitespaceSplitPreTokenizer : public PreTokenizer {
 public:
  static PreTokenizerOr Make(const json&, const std::string&) {
    return std::make_unique<WhitespaceSplitPreTokenizer>();
  }
  absl::Status Apply(PreTokens* tokens) const override {
    return SplitAtCharacters(SplitBehavior::kRemoved, IsWhiteSpace, tokens);
  }
};

class SequencePreTokenizer : public PreTokenizer {
 public:
  static PreTokenizerOr Make(const json& config, const std::string& section);
  explicit SequencePreTokenizer(std::vector<std::unique_ptr<PreTokenizer>> steps)
      : steps_(std::move(steps)) {}
  absl::Status Apply(PreTokens* tokens) const override {
    for (const auto& step : steps_) RETURN_IF_ERROR(step->Apply(tokens));
    return absl::OkStatus();
  }

 private:
  const std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

constexpr ComponentType<std::unique_ptr<PreTokenizer>> kTypes[] = {
    {"Split", SplitPreTokenizer::Make},
    {"ByteLevel", ByteLevelPreTokenizer::Make},
    {"Metaspace", MetaspacePreTokenizer::Make},
    {"Digits", DigitsPreTokenizer::Make},
    {"Punctuation", PunctuationPreTokenizer::Make},
    {"WhitespaceSplit", WhitespaceSplitPreTokenizer::Make},
    {"Sequence", SequencePreTokenizer::Make},
};

PreTokenizerOr SequencePreTokenizer::Make(const json& config, const std::string& section) {
  ASSIGN_OR_RETURN(auto steps, MakeComponents(kTypes, config, section, "pretokenizers"));
  return std::make_unique<SequencePreTokenizer>(std::move(steps));
}

}  // namespace

absl::StatusOr<std::unique_ptr<PreTokenizer>> MakePreTokenizer(const json& config) {
  if (config.is_null()) {
    return std::make_unique<SequencePreTokenizer>(std::vector<std::unique_ptr<PreTokenizer>>());
  }
  return MakeComponent(kTypes, config, "pre_tokenizer");
}

}  // namespace moelight
