// Decoders of tokenizer.json: how token strings become text again, token by token.
//
// A Decoder is a description and makes streams; a DecoderStream is one text being decoded. Decoding
// at once is a stream that gets every token, so streamed and complete text cannot differ.
//
// Threads: a Decoder is immutable and thread-safe; a stream belongs to one caller at a time.
// To add a type: a step class and a row of the table in decoder.cc.
#ifndef MOELIGHT_ENGINE_TOKENIZER_DECODER_H_
#define MOELIGHT_ENGINE_TOKENIZER_DECODER_H_

#include <memory>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <nlohmann/json.hpp>

#include "engine/tokenizer/decoder_steps.h"

namespace moelight {

class DecoderStream {
 public:
  // Appends to `out` what is now certain of the text, always whole characters. Constant time per
  // byte of `token`.
  void Append(absl::string_view token, std::string* out);
  // Ends the text: appends what was held back.
  void Flush(std::string* out);

 private:
  friend class Decoder;
  std::vector<std::unique_ptr<DecoderStep>> steps_;
  std::unique_ptr<DecoderStep> text_;  // the end of the chain
  std::string buffer_;                 // what text_ writes to
};

class Decoder {
 public:
  // Reads the "decoder" section; JSON null puts a space between tokens, as the reference does.
  static absl::StatusOr<Decoder> Create(const nlohmann::json& config);

  std::unique_ptr<DecoderStream> NewStream() const;

 private:
  std::vector<DecoderStepFactory> factories_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_DECODER_H_
