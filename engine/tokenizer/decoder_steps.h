// The steps a decoder is made of. Each takes strings one by one and gives strings to the next step.
//
// Threads: a step belongs to one stream. Steps that come before the text is fused see tokens; those
// behind see the pieces of one text, cut anywhere between characters.
#ifndef MOELIGHT_ENGINE_TOKENIZER_DECODER_STEPS_H_
#define MOELIGHT_ENGINE_TOKENIZER_DECODER_STEPS_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <absl/strings/string_view.h>

#include "engine/tokenizer/tokenizer_pattern.h"
#include "engine/tokenizer/unicode.h"

namespace moelight {

class DecoderStep {
 public:
  explicit DecoderStep(DecoderStep* next) : next_(next) {}
  virtual ~DecoderStep() = default;
  virtual void Push(absl::string_view text) = 0;
  // Ends the text: passes on what was held back and ends the next step.
  virtual void End() { next_->End(); }

 protected:
  DecoderStep* const next_;
};

// Makes a step for a new stream, in front of `next`.
using DecoderStepFactory = std::function<std::unique_ptr<DecoderStep>(DecoderStep* next)>;

// Passes everything on.
class PassStep : public DecoderStep {
 public:
  using DecoderStep::DecoderStep;
  void Push(absl::string_view text) override { next_->Push(text); }
};

// Puts a space between tokens.
class SpaceStep : public DecoderStep {
 public:
  using DecoderStep::DecoderStep;
  void Push(absl::string_view token) override;

 private:
  bool first_ = true;
};

// Byte-level characters become bytes, and those become text. A token with any other character is
// taken as it is. Fuses.
class ByteLevelStep : public DecoderStep {
 public:
  using DecoderStep::DecoderStep;
  void Push(absl::string_view token) override;
  void End() override;

 private:
  Utf8Assembler assembler_;
  std::string bytes_;
  std::string text_;
};

// A run of <0xNN> tokens becomes text if it is valid UTF-8 as a whole, otherwise one U+FFFD per
// token. Holds a run back until it ends, because its last byte decides.
class ByteFallbackStep : public DecoderStep {
 public:
  using DecoderStep::DecoderStep;
  void Push(absl::string_view token) override;
  void End() override;

 private:
  void EndRun();
  std::string run_;  // bytes
};

// Replaces every match of `pattern` within a token.
class ReplaceStep : public DecoderStep {
 public:
  ReplaceStep(std::shared_ptr<const TokenizerPattern> pattern, std::string content,
              DecoderStep* next)
      : DecoderStep(next), pattern_(std::move(pattern)), content_(std::move(content)) {}
  void Push(absl::string_view token) override;

 private:
  const std::shared_ptr<const TokenizerPattern> pattern_;
  const std::string content_;
};

// The replacement character becomes a space; in the first token it goes if the pre-tokenizer put
// it there.
class MetaspaceStep : public DecoderStep {
 public:
  MetaspaceStep(std::string replacement, bool drop_first, DecoderStep* next)
      : DecoderStep(next), replacement_(std::move(replacement)), dropping_(drop_first) {}
  void Push(absl::string_view token) override;

 private:
  const std::string replacement_;
  bool dropping_;
};

// What Strip removes: up to `left` times `content` from the front, up to `right` from the back.
struct StripOptions {
  std::string content;  // one character
  size_t left = 0;
  size_t right = 0;
};

// Strips each token.
class StripTokenStep : public DecoderStep {
 public:
  StripTokenStep(StripOptions options, DecoderStep* next)
      : DecoderStep(next), options_(std::move(options)) {}
  void Push(absl::string_view token) override;

 private:
  const StripOptions options_;
};

// Strips the whole text, after it was fused. Holds back at most `right` characters.
class StripTextStep : public DecoderStep {
 public:
  StripTextStep(StripOptions options, DecoderStep* next)
      : DecoderStep(next), options_(std::move(options)) {}
  void Push(absl::string_view text) override;
  void End() override;

 private:
  const StripOptions options_;
  size_t num_stripped_ = 0;  // from the front
  bool front_done_ = false;  // a character that stays was seen
  size_t num_held_ = 0;      // times `content` at the end so far, at most `right`
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_DECODER_STEPS_H_
