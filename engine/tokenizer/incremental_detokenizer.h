// IncrementalDetokenizer: the text of a sequence while its tokens are being generated.
//
// The pieces concatenate to Tokenizer::Decode() of all tokens. A piece never ends within a
// character: what later tokens can still change is held back.
//
// Threads: one sequence, one caller at a time. Borrows the tokenizer. Cost: constant per token,
// however long the sequence is.
#ifndef MOELIGHT_ENGINE_TOKENIZER_INCREMENTAL_DETOKENIZER_H_
#define MOELIGHT_ENGINE_TOKENIZER_INCREMENTAL_DETOKENIZER_H_

#include <memory>
#include <string>

#include "engine/request.h"
#include "engine/tokenizer/decoder.h"
#include "engine/tokenizer/tokenizer.h"

namespace moelight {

class IncrementalDetokenizer {
 public:
  // `tokenizer` must outlive the detokenizer.
  IncrementalDetokenizer(const Tokenizer* tokenizer, bool skip_special_tokens);

  // The text that `token` makes certain; often empty. An id that has no token adds nothing.
  std::string Append(TokenId token);
  // The rest, at the end of the sequence. Nothing may be appended afterwards.
  std::string Flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  std::unique_ptr<DecoderStream> stream_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_INCREMENTAL_DETOKENIZER_H_
