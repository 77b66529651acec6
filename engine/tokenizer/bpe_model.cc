#include "engine/tokenizer/bpe_model.h"

#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/bpe_bytes.h"
#include "engine/tokenizer/unicode.h"

namespace moelight {
namespace {

constexpr char32_t kBmpSize = 0x10000;

absl::Status MergeError(size_t index, absl::string_view token, absl::string_view rule) {
  return absl::InvalidArgumentError(
      absl::StrCat("model.merges[", index, "]: \"", token, "\" ", rule));
}

}  // namespace

absl::StatusOr<BpeModel> BpeModel::Create(TokenizerJson& json) {
  const auto config = json.config.find("model");
  if (config == json.config.end()) return absl::InvalidArgumentError("file has no model section");
  // Files older than the "type" field hold BPE.
  if (!config->is_object() || config->contains("type")) {
    ASSIGN_OR_RETURN(const std::string type, TypeField(*config, "model"));
    if (type != "BPE") return UnsupportedType("model", type, {"BPE"});
  }
  BpeModel model;
  RETURN_IF_ERROR(model.ReadOptions(*config));
  model.tokens_ = std::move(json.vocab_tokens);
  RETURN_IF_ERROR(model.IndexVocab(json.vocab_ids));
  model.IndexCharacters();
  RETURN_IF_ERROR(model.IndexMerges(json.merge_parts));
  if (model.unknown_token_) model.unknown_id_ = model.TokenToId(*model.unknown_token_);
  return model;
}

absl::Status BpeModel::ReadOptions(const nlohmann::json& config) {
  const auto dropout = config.find("dropout");
  if (dropout != config.end() && !dropout->is_null() && *dropout != 0) {
    return absl::InvalidArgumentError("model.dropout is not supported: encoding would be random");
  }
  ASSIGN_OR_RETURN(fuse_unknown_, BoolField(config, "model", "fuse_unk", false));
  ASSIGN_OR_RETURN(byte_fallback_, BoolField(config, "model", "byte_fallback", false));
  ASSIGN_OR_RETURN(ignore_merges_, BoolField(config, "model", "ignore_merges", false));
  ASSIGN_OR_RETURN(word_prefix_, StringField(config, "model", "continuing_subword_prefix", ""));
  ASSIGN_OR_RETURN(word_suffix_, StringField(config, "model", "end_of_word_suffix", ""));
  if (config.contains("unk_token") && !config["unk_token"].is_null()) {
    ASSIGN_OR_RETURN(unknown_token_, StringField(config, "model", "unk_token", ""));
  }
  return absl::OkStatus();
}

absl::Status BpeModel::IndexVocab(const std::vector<int64_t>& ids) {
  token_id_.reserve(ids.size());
  index_of_id_.reserve(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    const absl::string_view token = tokens_[i];
    const int64_t id = ids[i];
    if (id < 0 || id >= kMaxVocabSize) {
      return absl::InvalidArgumentError(absl::StrCat("model.vocab: id ", id, " of \"", token,
                                                     "\" is not in [0, ", kMaxVocabSize, ")"));
    }
    if (!token_id_.emplace(token, static_cast<TokenId>(id)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("model.vocab: token \"", token, "\" appears twice"));
    }
    if (static_cast<size_t>(id) >= index_of_id_.size()) index_of_id_.resize(id + 1, -1);
    int32_t& index = index_of_id_[id];
    if (index >= 0) {
      return absl::InvalidArgumentError(absl::StrCat("model.vocab: \"", tokens_[index], "\" and \"",
                                                     token, "\" have the same id ", id));
    }
    index = static_cast<int32_t>(i);
  }
  return absl::OkStatus();
}

absl::Status BpeModel::IndexMerges(const StringList& parts) {
  merger_.Reserve(parts.size() / 2);
  // Joints are told by characters, which is right only as long as words start as characters: not
  // with prefixes, nor if rules merge the symbols of unknown characters.
  bool joints_known = word_prefix_.empty() && word_suffix_.empty();
  std::string merged;
  for (size_t i = 0; i + 1 < parts.size(); i += 2) {
    const absl::string_view left = parts[i];
    const absl::string_view right = parts[i + 1];
    const auto left_id = TokenToId(left);
    const auto right_id = TokenToId(right);
    if (!left_id || !right_id) {
      return MergeError(i / 2, left_id ? right : left, "is not in the vocabulary");
    }
    if (right.size() < word_prefix_.size()) {
      return MergeError(i / 2, right, "is shorter than continuing_subword_prefix");
    }
    merged.assign(left.data(), left.size());
    merged.append(right.data() + word_prefix_.size(), right.size() - word_prefix_.size());
    const auto merged_id = TokenToId(merged);
    if (!merged_id) return MergeError(i / 2, merged, "is the result and not in the vocabulary");
    merger_.AddRule(*left_id, *right_id, static_cast<uint32_t>(i / 2), *merged_id);
    joints_known = joints_known && !left.empty() && !right.empty() && !IsFallbackToken(left) &&
                   !IsFallbackToken(right);
    if (!joints_known) continue;
    const size_t last = PreviousUtf8(left, left.size());
    const auto last_id = CharacterToken(left, last, left.size());
    const auto first_id = CharacterToken(right, 0, Utf8Length(right[0]));
    if (last_id && first_id) merger_.AddJoint(*last_id, *first_id);
  }
  if (joints_known) merger_.EnableCuts();
  return absl::OkStatus();
}

bool BpeModel::IsFallbackToken(absl::string_view token) const {
  return (unknown_token_ && token == *unknown_token_) ||
         (byte_fallback_ && ByteOfFallbackToken(token).has_value());
}

void BpeModel::IndexCharacters() {
  bmp_id_.assign(kBmpSize, -1);
  for (const auto& [token, id] : token_id_) {
    if (!IsOneCharacter(token)) continue;
    const char32_t character = DecodeUtf8(token, 0);
    if (character < kBmpSize) bmp_id_[character] = id;
  }
  for (int byte = 0; byte < 256; ++byte) {
    byte_id_[byte] = TokenToId(ByteFallbackToken(static_cast<uint8_t>(byte))).value_or(-1);
  }
}

std::optional<TokenId> BpeModel::CharacterToken(absl::string_view word, size_t begin,
                                                size_t end) const {
  const absl::string_view character = word.substr(begin, end - begin);
  const bool prefixed = begin > 0 && !word_prefix_.empty();
  const bool suffixed = end == word.size() && !word_suffix_.empty();
  if (prefixed || suffixed) {
    return TokenToId(absl::StrCat(prefixed ? absl::string_view(word_prefix_) : "", character,
                                  suffixed ? absl::string_view(word_suffix_) : ""));
  }
  if (character.size() > 3) return TokenToId(character);
  const TokenId id = bmp_id_[DecodeUtf8(character, 0)];
  return id < 0 ? std::nullopt : std::make_optional(id);
}

bool BpeModel::AppendByteTokens(absl::string_view character, std::vector<TokenId>* symbols) const {
  for (const char byte : character) {
    if (byte_id_[static_cast<unsigned char>(byte)] < 0) return false;
  }
  for (const char byte : character) symbols->push_back(byte_id_[static_cast<unsigned char>(byte)]);
  return true;
}

absl::Status BpeModel::SplitCharacters(absl::string_view word,
                                       std::vector<TokenId>* symbols) const {
  symbols->clear();
  // An unknown token waits for the next known character, so that a run can be fused. Byte tokens
  // do not end the wait: the reference puts them before it, and so do we.
  bool unknown_waits = false;
  for (size_t begin = 0, end = 0; begin < word.size(); begin = end) {
    end = begin + Utf8Length(word[begin]);
    if (const auto id = CharacterToken(word, begin, end)) {
      if (unknown_waits) symbols->push_back(*unknown_id_);
      unknown_waits = false;
      symbols->push_back(*id);
      continue;
    }
    if (byte_fallback_ && AppendByteTokens(word.substr(begin, end - begin), symbols)) continue;
    if (!unknown_token_) continue;  // without an unknown token the reference drops the character
    if (!unknown_id_) {
      return absl::InvalidArgumentError(absl::StrCat(
          "\"", word.substr(begin, end - begin),
          "\" has no token, and neither has model.unk_token \"", *unknown_token_, "\""));
    }
    if (unknown_waits && !fuse_unknown_) symbols->push_back(*unknown_id_);
    unknown_waits = true;
  }
  if (unknown_waits) symbols->push_back(*unknown_id_);
  return absl::OkStatus();
}

absl::Status BpeModel::Encode(absl::string_view word, BpeScratch* scratch,
                              std::vector<TokenId>* out) const {
  if (ignore_merges_) {
    if (const auto id = TokenToId(word)) {
      out->push_back(*id);
      return absl::OkStatus();
    }
  }
  RETURN_IF_ERROR(SplitCharacters(word, &scratch->symbols));
  merger_.Merge(scratch, out);
  return absl::OkStatus();
}

std::optional<TokenId> BpeModel::TokenToId(absl::string_view token) const {
  const auto it = token_id_.find(token);
  return it == token_id_.end() ? std::nullopt : std::make_optional(it->second);
}

absl::string_view BpeModel::IdToToken(TokenId id) const {
  if (id < 0 || id >= vocab_size() || index_of_id_[id] < 0) return {};
  return tokens_[index_of_id_[id]];
}

}  // namespace moelight
