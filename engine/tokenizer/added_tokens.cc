#include "engine/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "engine/tokenizer/unicode.h"

namespace moelight {
namespace {

// Bounds the work per byte of text; published tokens have fewer than 100 bytes.
constexpr size_t kMaxTokenBytes = 512;

bool IsWholeWord(absl::string_view text, const TrieMatch& match) {
  const bool word_before =
      match.begin > 0 && IsWord(DecodeUtf8(text, PreviousUtf8(text, match.begin)));
  const bool word_after = match.end < text.size() && IsWord(DecodeUtf8(text, match.end));
  return !word_before && !word_after;
}

// Where the white space that ends at `end` begins, but not before `limit`.
size_t WhiteSpaceBefore(absl::string_view text, size_t limit, size_t end) {
  while (end > limit) {
    const size_t last = PreviousUtf8(text, end);
    if (last < limit || !IsWhiteSpace(DecodeUtf8(text, last))) break;
    end = last;
  }
  return end;
}

size_t WhiteSpaceBehind(absl::string_view text, size_t begin) {
  while (begin < text.size() && IsWhiteSpace(DecodeUtf8(text, begin))) {
    begin += Utf8Length(text[begin]);
  }
  return begin;
}

}  // namespace

absl::StatusOr<AddedTokens> AddedTokens::Create(const nlohmann::json& config, const BpeModel& model,
                                                const Normalizer& normalizer) {
  AddedTokens result;
  if (config.is_null()) return result;
  if (!config.is_array()) return absl::InvalidArgumentError("added_tokens is not an array");
  int index = 0;
  for (const nlohmann::json& entry : config) {
    RETURN_IF_ERROR(
        result.Add(entry, absl::StrCat("added_tokens[", index++, "]"), model, normalizer));
  }
  return result;
}

absl::Status AddedTokens::Add(const nlohmann::json& entry, const std::string& section,
                              const BpeModel& model, const Normalizer& normalizer) {
  if (!entry.is_object()) return absl::InvalidArgumentError(section + " is not an object");
  Token token;
  ASSIGN_OR_RETURN(token.content, StringField(entry, section, "content", ""));
  ASSIGN_OR_RETURN(const int64_t file_id, CountField(entry, section, "id", kMaxVocabSize - 1));
  ASSIGN_OR_RETURN(token.single_word, BoolField(entry, section, "single_word", false));
  ASSIGN_OR_RETURN(token.lstrip, BoolField(entry, section, "lstrip", false));
  ASSIGN_OR_RETURN(token.rstrip, BoolField(entry, section, "rstrip", false));
  ASSIGN_OR_RETURN(token.special, BoolField(entry, section, "special", false));
  ASSIGN_OR_RETURN(const bool normalized, BoolField(entry, section, "normalized", !token.special));
  const auto id = static_cast<TokenId>(file_id);
  if (token.content.empty()) return absl::OkStatus();  // the reference passes over these too
  if (token.content.size() > kMaxTokenBytes) {
    return absl::InvalidArgumentError(absl::StrCat(section, ".content has ", token.content.size(),
                                                   " bytes, limit ", kMaxTokenBytes));
  }
  const absl::string_view vocab_token = model.IdToToken(id);
  const auto vocab_id = model.TokenToId(token.content);
  if ((!vocab_token.empty() || vocab_id) && vocab_id != id) {
    return absl::InvalidArgumentError(absl::StrCat(
        section, ": \"", token.content, "\" has id ", id, ", which contradicts model.vocab, where ",
        vocab_id ? absl::StrCat("its id is ", *vocab_id)
                 : absl::StrCat("that is the id of \"", vocab_token, "\"")));
  }
  const auto [known_id, is_new] = ids_.emplace(token.content, id);
  if (known_id->second != id || (is_new && tokens_.contains(id))) {
    return absl::InvalidArgumentError(absl::StrCat(section, ": \"", token.content, "\" with id ",
                                                   id, " contradicts an earlier added token"));
  }
  NormalizedText pattern{token.content, ""};
  if (normalized) RETURN_IF_ERROR(normalizer.Apply(&pattern));
  if (!pattern.text.empty()) (normalized ? normalized_ : raw_).Add(pattern.text, id);
  token.pattern = std::move(pattern.text);
  tokens_[id] = std::move(token);
  id_limit_ = std::max(id_limit_, id + 1);
  return absl::OkStatus();
}

std::vector<TextSegment> AddedTokens::Split(const AddedTokensTrie& trie, absl::string_view text,
                                            absl::Span<const ByteSpan> plain_spans) const {
  std::vector<TextSegment> segments;
  size_t done = 0;  // end of the last segment
  const auto add_match = [&](const TrieMatch& match) {
    const Token& token = tokens_.at(match.token);
    if (token.single_word && !IsWholeWord(text, match)) return;
    // A token may already have taken the space in which this one begins.
    const size_t begin =
        std::max(done, token.lstrip ? WhiteSpaceBefore(text, done, match.begin) : match.begin);
    const size_t end =
        std::max(begin, token.rstrip ? WhiteSpaceBehind(text, match.end) : match.end);
    if (done < begin) segments.push_back({done, begin, std::nullopt});
    segments.push_back({begin, end, match.token});
    done = end;
  };
  const auto find_all = [&](size_t begin, size_t end) {
    while (const auto match = trie.Find(text, begin, end)) {
      add_match(*match);
      begin = match->end;
    }
  };
  size_t searchable = 0;  // begin of the text since the last plain span
  for (const ByteSpan& plain : plain_spans) {
    if (plain.begin == plain.end) continue;  // touches no byte
    find_all(searchable, plain.begin);
    searchable = plain.end;
  }
  find_all(searchable, text.size());
  if (done < text.size()) segments.push_back({done, text.size(), std::nullopt});
  return segments;
}

std::optional<TokenId> AddedTokens::TokenToId(absl::string_view token) const {
  const auto it = ids_.find(token);
  return it == ids_.end() ? std::nullopt : std::make_optional(it->second);
}

absl::string_view AddedTokens::IdToToken(TokenId id) const {
  const auto it = tokens_.find(id);
  return it == tokens_.end() ? absl::string_view() : absl::string_view(it->second.content);
}

absl::string_view AddedTokens::DecodedToken(TokenId id) const {
  const auto it = tokens_.find(id);
  return it == tokens_.end() ? absl::string_view() : absl::string_view(it->second.pattern);
}

bool AddedTokens::IsSpecial(TokenId id) const {
  const auto it = tokens_.find(id);
  return it != tokens_.end() && it->second.special;
}

}  // namespace moelight
