// Sequence: one prompt on its way through the model, as the scheduler and the pipeline see it.
//
// Owned by the engine thread; nothing else touches it.
#ifndef MOELIGHT_ENGINE_SCHEDULER_SEQUENCE_H_
#define MOELIGHT_ENGINE_SCHEDULER_SEQUENCE_H_

#include <cstdint>
#include <vector>

#include "engine/memory/kv_cache.h"
#include "engine/memory/prefix_index.h"
#include "engine/request.h"
#include "engine/scheduler/job_table.h"

namespace moelight {

struct Sequence {
  std::vector<TokenId> tokens;  // prompt, then generated tokens
  int32_t num_prompt_tokens = 0;
  int32_t max_tokens_total = 0;  // prompt and output together, at most the model's context
  bool ends_at_max = false;      // nothing ends it before: no end of sequence, no stop
  RequestGroup group;

  // Set by the scheduler:
  BlockTable block_table;           // of the tokens up to the end of the current step
  int32_t num_cached_tokens = 0;    // whose K and V are in the cache
  int32_t num_step_tokens = 0;      // computed in the current step, behind the cached ones
  int32_t num_computed_tokens = 0;  // the most that were ever in the cache: the rest is new work
  int32_t num_shared_tokens = 0;    // of the prompt, found in the cache at the first admission
  int32_t num_shared_pages = 0;     // first pages of the block table, found in the cache
  int64_t rank = 0;                 // order of first admission; 0: never admitted
  bool is_ahead = false;            // runs ahead of its pace: the first to be put back
  bool is_at_pace = false;          // runs, and counts for it
  double charged_tokens = 0;        // what its client was charged for it
  Job* job = nullptr;               // what it has in common with others
  // Of its prompt's pages: those in the index, the last of them (none: no more are added), and the
  // next one, which it has announced.
  int32_t num_indexed_pages = 0;
  PrefixIndex::NodeId prefix = PrefixIndex::kNone;
  PrefixIndex::NodeId pending = PrefixIndex::kNone;

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t num_generated_tokens() const { return num_tokens() - num_prompt_tokens; }
  // Tokens whose K and V are not in the cache: one, when the prompt has been computed.
  int32_t num_missing_tokens() const { return num_tokens() - num_cached_tokens; }
  bool is_decoding() const { return num_cached_tokens > 0 && num_missing_tokens() == 1; }
  // Whether the current step computes its last token, and so gives it the next.
  bool has_output() const { return num_step_tokens == num_missing_tokens(); }
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SCHEDULER_SEQUENCE_H_
