// Tokenizer: text to token ids and back, as a Hugging Face tokenizer.json describes it.
//
// Encoding: added tokens are cut out, the text between them is normalized, cut into words and
// merged by BPE, and the post-processor adds its special tokens. Ids and text equal those of the
// Hugging Face tokenizers library; README.md names what is supported.
//
// Threads: immutable after creation, thread-safe. Owns: the vocabulary and the compiled regexes.
// Allocates: per call. Errors: InvalidArgument naming the section of the file, the item and the
// rule; NotFound for a file that is not there.
#ifndef MOELIGHT_ENGINE_TOKENIZER_TOKENIZER_H_
#define MOELIGHT_ENGINE_TOKENIZER_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "engine/request.h"
#include "engine/tokenizer/byte_span.h"

namespace moelight {

class DecoderStream;

struct EncodeOptions {
  bool add_special_tokens = true;  // run the post-processor (beginning of sequence and the like)
  // Sorted, disjoint ranges of the text, such as what a user wrote. No added token is recognised
  // that touches a byte of them, so that text of users can never become a control token.
  absl::Span<const ByteSpan> plain_spans;
};

class Tokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromFile(const std::string& path);
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(absl::string_view json);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // InvalidArgument if `text` is not valid UTF-8 (naming the byte) or the spans are not as asked;
  // ResourceExhausted if a regex of the file runs into its limits.
  absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view text,
                                              const EncodeOptions& options = {}) const;

  // Always valid UTF-8; bytes that form no character become U+FFFD. Ids that have no token are
  // skipped.
  std::string Decode(absl::Span<const TokenId> tokens, bool skip_special_tokens) const;

  int32_t vocab_size() const;  // largest id + 1
  std::optional<TokenId> TokenToId(absl::string_view token) const;
  absl::string_view IdToToken(TokenId id) const;  // empty if none
  bool IsSpecial(TokenId id) const;               // an added token marked special

  // For IncrementalDetokenizer: a new text to be decoded, and what to give it for a token (empty if
  // there is none).
  std::unique_ptr<DecoderStream> NewDecoderStream() const;
  absl::string_view DecoderInput(TokenId id) const;

 private:
  struct Parts;
  class Encoding;
  explicit Tokenizer(std::unique_ptr<const Parts> parts);

  std::unique_ptr<const Parts> parts_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_TOKENIZER_H_
