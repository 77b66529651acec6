#include "engine/scheduler/batch.h"

#include <algorithm>

#include "engine/base/check.h"

namespace moelight {

void Batch::Clear() {
  sequences_.clear();
  token_ids_.clear();
  positions_.clear();
  attention_.clear();
  last_rows_.clear();
  micro_batches_.clear();
  num_prefill_tokens_ = 0;
}

void Batch::Add(Sequence* sequence) {
  const int32_t first = sequence->num_cached_tokens;
  const int32_t count = sequence->num_tokens() - first;
  CHECK_GT(count, 0);
  attention_.push_back({num_rows(), count, first, sequence->block_table.data()});
  for (int32_t i = first; i < first + count; ++i) {
    token_ids_.push_back(sequence->tokens[i]);
    positions_.push_back(i);
  }
  // A first pass computes the prompt; so does the pass after a restart, over what was generated
  // too.
  if (first == 0) num_prefill_tokens_ += count;
  last_rows_.push_back(num_rows() - 1);
  sequences_.push_back(sequence);
}

void Batch::Cut(int32_t n) {
  CHECK_GE(n, 1);
  micro_batches_.clear();
  int32_t sequence = 0;
  for (int32_t part = 0; part < n && sequence < num_sequences(); ++part) {
    MicroBatch micro_batch;
    micro_batch.sequence_begin = sequence;
    micro_batch.row_begin = attention_[sequence].first_row;
    // Rows that should be behind us after this part.
    const int64_t target = int64_t{num_rows()} * (part + 1) / n;
    const bool last_part = part + 1 == n;
    do {
      micro_batch.row_end = last_rows_[sequence] + 1;
      attention_[sequence].first_row -= micro_batch.row_begin;
      ++sequence;
    } while (sequence < num_sequences() && (last_part || last_rows_[sequence] < target));
    micro_batch.sequence_end = sequence;
    micro_batches_.push_back(micro_batch);
  }
}

absl::Span<const int32_t> Batch::token_ids(const MicroBatch& part) const {
  return absl::MakeConstSpan(token_ids_).subspan(part.row_begin, part.num_rows());
}

absl::Span<const int32_t> Batch::positions(const MicroBatch& part) const {
  return absl::MakeConstSpan(positions_).subspan(part.row_begin, part.num_rows());
}

absl::Span<const AttentionSequence> Batch::attention(const MicroBatch& part) const {
  return absl::MakeConstSpan(attention_).subspan(part.sequence_begin, part.num_sequences());
}

}  // namespace moelight
