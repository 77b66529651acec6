#include "engine/tokenizer/tokenizer.h"

#include <algorithm>
#include <fstream>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/bpe_model.h"
#include "engine/tokenizer/decoder.h"
#include "engine/tokenizer/incremental_detokenizer.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/post_processor.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "engine/tokenizer/unicode.h"

namespace moelight {
namespace {

absl::StatusOr<std::string> ReadTokenizerFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return absl::NotFoundError("cannot be opened");
  const std::streamoff size = file.tellg();
  if (size < 0) return absl::InvalidArgumentError("is not a regular file");
  if (static_cast<uint64_t>(size) > kMaxTokenizerJsonBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("has ", size, " bytes, limit ", kMaxTokenizerJsonBytes));
  }
  std::string text(static_cast<size_t>(size), '\0');
  file.seekg(0);
  if (!file.read(text.data(), size)) return absl::InvalidArgumentError("cannot be read");
  return text;
}

absl::Status CheckPlainSpans(absl::Span<const ByteSpan> spans, size_t text_size) {
  size_t done = 0;
  for (size_t i = 0; i < spans.size(); ++i) {
    if (spans[i].begin < done || spans[i].end < spans[i].begin || spans[i].end > text_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("plain_spans[", i, "] is [", spans[i].begin, ", ", spans[i].end,
                       "): not sorted, not disjoint, or past the ", text_size, " bytes of text"));
    }
    done = spans[i].end;
  }
  return absl::OkStatus();
}

// The marks of text[begin, end) that NormalizedText carries; empty if no byte of it is plain.
std::string PlainMarks(absl::Span<const ByteSpan> spans, size_t begin, size_t end) {
  std::string marks;
  for (const ByteSpan& span : spans) {
    const size_t first = std::max(begin, span.begin);
    const size_t last = std::min(end, span.end);
    if (first >= last) continue;
    marks.resize(end - begin, '\0');
    std::fill(marks.begin() + static_cast<ptrdiff_t>(first - begin),
              marks.begin() + static_cast<ptrdiff_t>(last - begin), '\1');
  }
  return marks;
}

std::vector<ByteSpan> SpansFromMarks(absl::string_view marks) {
  std::vector<ByteSpan> spans;
  for (size_t i = 0; i < marks.size(); ++i) {
    if (marks[i] == '\0') continue;
    if (spans.empty() || spans.back().end != i) spans.push_back({i, i});
    ++spans.back().end;
  }
  return spans;
}

}  // namespace

struct Tokenizer::Parts {
  BpeModel model;
  std::unique_ptr<Normalizer> normalizer;
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  AddedTokens added_tokens;
  PostProcessor post_processor;
  Decoder decoder;
};

// One call of Encode(): the stages in order, each feeding the next.
class Tokenizer::Encoding {
 public:
  Encoding(const Parts& parts, std::vector<TokenId>* out) : parts_(parts), out_(out) {}

  absl::Status EncodeRaw(absl::string_view text, absl::Span<const ByteSpan> plain_spans) {
    for (const TextSegment& segment : parts_.added_tokens.SplitRaw(text, plain_spans)) {
      if (segment.token) {
        out_->push_back(*segment.token);
        continue;
      }
      NormalizedText normalized;
      normalized.text = std::string(text.substr(segment.begin, segment.end - segment.begin));
      if (parts_.added_tokens.has_normalized()) {
        normalized.plain = PlainMarks(plain_spans, segment.begin, segment.end);
      }
      RETURN_IF_ERROR(parts_.normalizer->Apply(&normalized));
      RETURN_IF_ERROR(EncodeNormalized(normalized, segment.begin == 0));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status EncodeNormalized(const NormalizedText& normalized, bool at_text_start) {
    const absl::string_view text = normalized.text;
    const std::vector<ByteSpan> plain_spans = SpansFromMarks(normalized.plain);
    for (const TextSegment& segment : parts_.added_tokens.SplitNormalized(text, plain_spans)) {
      if (segment.token) {
        out_->push_back(*segment.token);
      } else {
        RETURN_IF_ERROR(EncodeWords(text.substr(segment.begin, segment.end - segment.begin),
                                    at_text_start && segment.begin == 0));
      }
    }
    return absl::OkStatus();
  }

  absl::Status EncodeWords(absl::string_view text, bool at_text_start) {
    PreTokens tokens{std::string(text), {{0, text.size(), at_text_start}}};
    RETURN_IF_ERROR(parts_.pre_tokenizer->Apply(&tokens));
    for (const PreToken& word : tokens.words) {
      RETURN_IF_ERROR(parts_.model.Encode(tokens.Word(word), &scratch_, out_));
    }
    return absl::OkStatus();
  }

  const Parts& parts_;
  std::vector<TokenId>* const out_;
  BpeScratch scratch_;
};

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromFile(const std::string& path) {
  const auto with_path = [&](const absl::Status& status) {
    return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
  };
  const absl::StatusOr<std::string> text = ReadTokenizerFile(path);
  if (!text.ok()) return with_path(text.status());
  auto tokenizer = FromJson(*text);
  if (!tokenizer.ok()) return with_path(tokenizer.status());
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(absl::string_view text) {
  ASSIGN_OR_RETURN(TokenizerJson json, ParseTokenizerJson(text));
  const auto section = [&](const char* key) {
    const auto it = json.config.find(key);
    return it == json.config.end() ? nlohmann::json() : *it;
  };
  ASSIGN_OR_RETURN(BpeModel model, BpeModel::Create(json));
  ASSIGN_OR_RETURN(auto normalizer, MakeNormalizer(section("normalizer")));
  ASSIGN_OR_RETURN(auto pre_tokenizer, MakePreTokenizer(section("pre_tokenizer")));
  ASSIGN_OR_RETURN(AddedTokens added_tokens,
                   AddedTokens::Create(section("added_tokens"), model, *normalizer));
  ASSIGN_OR_RETURN(PostProcessor post_processor, MakePostProcessor(section("post_processor")));
  ASSIGN_OR_RETURN(Decoder decoder, Decoder::Create(section("decoder")));
  auto parts = std::make_unique<const Parts>(
      Parts{std::move(model), std::move(normalizer), std::move(pre_tokenizer),
            std::move(added_tokens), std::move(post_processor), std::move(decoder)});
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer(std::move(parts)));
  for (const auto* ids :
       {&tokenizer->parts_->post_processor.before, &tokenizer->parts_->post_processor.after}) {
    for (const TokenId id : *ids) {
      if (tokenizer->IdToToken(id).empty()) {
        return absl::InvalidArgumentError(
            absl::StrCat("post_processor: there is no token with id ", id));
      }
    }
  }
  return tokenizer;
}

absl::StatusOr<std::vector<TokenId>> Tokenizer::Encode(absl::string_view text,
                                                       const EncodeOptions& options) const {
  if (const auto offset = FindInvalidUtf8(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat("text is not valid UTF-8 at byte ", *offset, " of ", text.size()));
  }
  RETURN_IF_ERROR(CheckPlainSpans(options.plain_spans, text.size()));
  std::vector<TokenId> ids;
  const PostProcessor& added = parts_->post_processor;
  if (options.add_special_tokens) ids = added.before;
  RETURN_IF_ERROR(Encoding(*parts_, &ids).EncodeRaw(text, options.plain_spans));
  if (options.add_special_tokens) ids.insert(ids.end(), added.after.begin(), added.after.end());
  return ids;
}

std::string Tokenizer::Decode(absl::Span<const TokenId> tokens, bool skip_special_tokens) const {
  IncrementalDetokenizer detokenizer(this, skip_special_tokens);
  std::string text;
  for (const TokenId token : tokens) text += detokenizer.Append(token);
  return text + detokenizer.Flush();
}

int32_t Tokenizer::vocab_size() const {
  return std::max(parts_->model.vocab_size(), parts_->added_tokens.id_limit());
}

std::optional<TokenId> Tokenizer::TokenToId(absl::string_view token) const {
  const auto added = parts_->added_tokens.TokenToId(token);
  return added ? added : parts_->model.TokenToId(token);
}

absl::string_view Tokenizer::IdToToken(TokenId id) const {
  const absl::string_view added = parts_->added_tokens.IdToToken(id);
  return added.empty() ? parts_->model.IdToToken(id) : added;
}

bool Tokenizer::IsSpecial(TokenId id) const { return parts_->added_tokens.IsSpecial(id); }

std::unique_ptr<DecoderStream> Tokenizer::NewDecoderStream() const {
  return parts_->decoder.NewStream();
}

absl::string_view Tokenizer::DecoderInput(TokenId id) const {
  const absl::string_view added = parts_->added_tokens.DecodedToken(id);
  return added.empty() ? parts_->model.IdToToken(id) : added;
}

}  // namespace moelight
