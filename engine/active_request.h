// ActiveRequest: one request inside the engine, from tokenized prompt to finished choices.
//
// Threads: engine thread only. Owns its sequences and output; borrows the tokenizer, which may be
// null (a model without one yields token ids and no text). The sink is borrowed until OnFinish.
#ifndef MOELIGHT_ENGINE_ACTIVE_REQUEST_H_
#define MOELIGHT_ENGINE_ACTIVE_REQUEST_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <absl/status/status.h>
#include <absl/types/span.h>

#include "engine/engine.h"
#include "engine/request.h"
#include "engine/sampling/sampler.h"
#include "engine/sampling/stop_checker.h"
#include "engine/scheduler/sequence.h"
#include "engine/tokenizer/incremental_detokenizer.h"
#include "engine/tokenizer/tokenizer.h"

namespace moelight {

using SteadyTime = std::chrono::steady_clock::time_point;

// A request whose prompt has been tokenized, on its way to the engine thread.
struct PreparedRequest {
  RequestId id = 0;
  TokenSink* sink = nullptr;
  SamplingParams sampling;
  bool stream = false;
  RequestGroup group;
  std::vector<TokenId> prompt;
  uint64_t seed = 0;  // the request's, or the one drawn for it
  SteadyTime submit_time;
};

class ActiveRequest {
 public:
  // One choice and the sequence that computes it.
  struct ActiveChoice {
    Sequence sequence;
    Choice output;
    std::optional<SequenceSampler> sampler;
    std::optional<StopChecker> stop_checker;
    std::optional<IncrementalDetokenizer> detokenizer;
    ActiveRequest* request = nullptr;
    bool done = false;
  };

  ActiveRequest(PreparedRequest request, const Tokenizer* tokenizer,
                const SamplingDefaults& defaults, int32_t vocab_size, int32_t max_model_len);

  RequestId id() const { return request_.id; }
  std::vector<std::unique_ptr<ActiveChoice>>& choices() { return choices_; }
  bool AllDone() const;
  // True the first time.
  bool NoteStarted(SteadyTime now);
  bool started() const { return start_time_.has_value(); }

  // Takes the next token of `choice`, which its sampler chose, and streams what became final. True
  // if the choice has ended. A row whose logits are not numbers ends with an error.
  bool Advance(ActiveChoice& choice, absl::StatusOr<SequenceSampler::Sampled> sampled);

  // Hands the result to the sink (and the observer, which may be null). Choices that are not done
  // get `reason`. The request is over afterwards.
  void Finish(const absl::Status& status, FinishReason reason, EngineObserver* observer);

 private:
  // Appends what detokenizer and stop checker still hold to `text`.
  void FlushText(ActiveChoice& choice, std::string* text);

  PreparedRequest request_;
  std::vector<std::unique_ptr<ActiveChoice>> choices_;
  absl::Status error_;
  std::optional<SteadyTime> start_time_;
};

// Prompt and max_tokens must fit the context: InvalidArgument naming field, value and limit.
absl::Status CheckLength(const PreparedRequest& request, int32_t max_model_len);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_ACTIVE_REQUEST_H_
