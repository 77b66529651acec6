// Sequence: one prompt on its way through the model, as the scheduler and the pipeline see it.
//
// Owned by the engine thread; nothing else touches it.
#ifndef MOELIGHT_ENGINE_SCHEDULER_SEQUENCE_H_
#define MOELIGHT_ENGINE_SCHEDULER_SEQUENCE_H_

#include <cstdint>
#include <vector>

#include "engine/memory/kv_cache.h"
#include "engine/request.h"

namespace moelight {

struct Sequence {
  std::vector<TokenId> tokens;  // prompt, then generated tokens
  int32_t num_prompt_tokens = 0;
  int32_t max_tokens_total = 0;  // prompt and output together, at most the model's context
  bool priority = false;         // goes before waiting sequences that have it not

  BlockTable block_table;         // set by the scheduler at admission
  int32_t num_cached_tokens = 0;  // tokens whose K and V are in the cache; set by the scheduler

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t num_generated_tokens() const { return num_tokens() - num_prompt_tokens; }
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SCHEDULER_SEQUENCE_H_
