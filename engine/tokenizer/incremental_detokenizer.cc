#include "engine/tokenizer/incremental_detokenizer.h"

namespace moelight {

IncrementalDetokenizer::IncrementalDetokenizer(const Tokenizer* tokenizer, bool skip_special_tokens)
    : tokenizer_(tokenizer),
      skip_special_tokens_(skip_special_tokens),
      stream_(tokenizer->NewDecoderStream()) {}

std::string IncrementalDetokenizer::Append(TokenId token) {
  std::string text;
  if (skip_special_tokens_ && tokenizer_->IsSpecial(token)) return text;
  const absl::string_view token_text = tokenizer_->DecoderInput(token);
  if (!token_text.empty()) stream_->Append(token_text, &text);
  return text;
}

std::string IncrementalDetokenizer::Flush() {
  std::string text;
  stream_->Flush(&text);
  return text;
}

}  // namespace moelight
