// Batch: the tokens of one step, laid out in rows, and its cut into MicroBatches.
//
// Threads: engine thread. Its vectors keep their capacity from step to step, so that a step does
// not allocate once the largest batch has been seen.
#ifndef MOELIGHT_ENGINE_SCHEDULER_BATCH_H_
#define MOELIGHT_ENGINE_SCHEDULER_BATCH_H_

#include <cstdint>
#include <vector>

#include <absl/types/span.h>

#include "engine/backend/ops.h"
#include "engine/scheduler/sequence.h"

namespace moelight {

// A run of whole sequences, computed together. Ranges are half-open.
struct MicroBatch {
  int32_t sequence_begin = 0;
  int32_t sequence_end = 0;
  int32_t row_begin = 0;
  int32_t row_end = 0;

  int32_t num_rows() const { return row_end - row_begin; }
  int32_t num_sequences() const { return sequence_end - sequence_begin; }
};

class Batch {
 public:
  void Clear();
  // Adds the tokens of `sequence` that are not in the cache yet. Its block table must hold them.
  void Add(Sequence* sequence);
  // Cuts the batch into at most `n` parts of about equal rows, keeping the order of sequences;
  // fewer if there are fewer sequences.
  void Cut(int32_t n);

  int32_t num_rows() const { return static_cast<int32_t>(token_ids_.size()); }
  int32_t num_sequences() const { return static_cast<int32_t>(sequences_.size()); }
  int32_t num_prefill_tokens() const { return num_prefill_tokens_; }
  int32_t num_decode_tokens() const { return num_rows() - num_prefill_tokens_; }
  Sequence* sequence(int32_t i) const { return sequences_[i]; }

  absl::Span<const MicroBatch> micro_batches() const { return micro_batches_; }
  absl::Span<const int32_t> token_ids(const MicroBatch& part) const;
  absl::Span<const int32_t> positions(const MicroBatch& part) const;
  // Rows are counted from the start of the micro-batch.
  absl::Span<const AttentionSequence> attention(const MicroBatch& part) const;
  // The row of each sequence's last token, counted from the start of the batch.
  absl::Span<const int32_t> last_rows() const { return last_rows_; }

 private:
  std::vector<Sequence*> sequences_;
  std::vector<int32_t> token_ids_;            // [num_rows]
  std::vector<int32_t> positions_;            // [num_rows]
  std::vector<AttentionSequence> attention_;  // [num_sequences]
  std::vector<int32_t> last_rows_;            // [num_sequences]
  std::vector<MicroBatch> micro_batches_;
  int32_t num_prefill_tokens_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SCHEDULER_BATCH_H_
