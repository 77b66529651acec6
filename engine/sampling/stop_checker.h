// StopChecker: decides after each token of one sequence whether it ends, and which text is final.
//
// A stop string is found wherever token boundaries fall: the match that ends first wins, the
// longest among those that end together. Text that could still become part of a stop string is held
// back (less than kMaxStopStringBytes), so that what was emitted never needs to be taken back.
//
// Threads: one at a time. Owns: the stop strings with their matching tables and the held text.
// Costs one table step per byte of new text and stop string, whatever the length of the output.
#ifndef MOELIGHT_ENGINE_SAMPLING_STOP_CHECKER_H_
#define MOELIGHT_ENGINE_SAMPLING_STOP_CHECKER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <absl/strings/string_view.h>

#include "engine/request.h"
#include "engine/sampling/sampling_defaults.h"

namespace moelight {

struct StopDecision {
  bool stop = false;
  FinishReason reason = FinishReason::kStop;  // meaningful if `stop`
  std::string stop_reason;                    // as Choice::stop_reason
  std::string emit;                           // text that became final
};

class StopChecker {
 public:
  // `max_output_tokens` is what the context has left, at least 1; params.max_tokens may lower it.
  // REQUIRES: valid params and defaults.
  StopChecker(const SamplingParams& params, const SamplingDefaults& defaults,
              int32_t max_output_tokens);

  // Whether `token`, coming next, ends the sequence by its id. Its text is not part of the output,
  // so it should not be given to the detokenizer, from which it would also push out held text.
  bool EndsSequence(TokenId token) const;

  // `new_text` is what `token` added to the detokenized output: whole UTF-8 characters. It is
  // dropped if the token ends the sequence by its id. REQUIRES: no decision to stop so far.
  StopDecision Append(TokenId token, absl::string_view new_text);

  // To be called once when the sequence has ended, for whatever reason, with the text that the
  // detokenizer still held. Emits all that is left, up to a stop string completed by `tail_text`:
  // only then `stop` is set and its reason replaces the one known. Emits nothing after a stop
  // string.
  StopDecision Flush(absl::string_view tail_text);

 private:
  // One stop string with its Knuth-Morris-Pratt automaton.
  class Pattern {
   public:
    explicit Pattern(std::string text);
    // Returns whether `byte` completes the string, and then begins anew with what overlaps.
    bool Advance(char byte);
    const std::string& text() const { return text_; }
    size_t num_matched() const { return num_matched_; }

   private:
    std::string text_;
    // border_[i]: length of the longest proper prefix of text_ that ends its first i bytes.
    std::vector<uint16_t> border_;
    uint16_t num_matched_ = 0;  // bytes of text_ that end the output
  };

  bool IsEos(TokenId token) const;
  void AppendText(absl::string_view new_text, StopDecision& decision);

  std::vector<TokenId> eos_token_ids_;  // empty if ignored
  std::vector<TokenId> stop_token_ids_;
  std::vector<Pattern> patterns_;
  int32_t min_tokens_;
  int32_t max_tokens_;
  int32_t num_tokens_ = 0;
  bool stopped_ = false;
  bool text_ended_ = false;  // by a stop string
  std::string held_;         // ends the text so far and begins a stop string
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SAMPLING_STOP_CHECKER_H_
