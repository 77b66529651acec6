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

// Where attention runs. Rows that attend on the device do so over a staging copy of their KV pages.
enum class AttentionPlacement : uint8_t {
  kHost,
  kPrefillOnDevice,  // prompts on the device, decode tokens on the host
  kDevice,
};

struct CutOptions {
  int32_t num_micro_batches = 1;  // at least, if there are as many sequences
  // Fewer are made of a small batch: each has so many rows, and less to overlap is lost by it than
  // by calls that are all overhead.
  int32_t min_rows = 1;
  AttentionPlacement attention = AttentionPlacement::kHost;
  // Bounds of one micro-batch; a sequence that is larger by itself is alone in one. More
  // micro-batches are made to keep them. 0: none.
  int64_t max_rows = 0;
  int64_t max_staging_pages = 0;
  int32_t kv_page_tokens = 0;  // needed unless all attention is on the host
  // Of micro-batches that go through a layer's experts together; 0: each goes alone.
  int64_t max_group_rows = 0;
};

// A run of whole sequences, computed together: first those that attend on the host, then those that
// attend on the device. Ranges are half-open.
struct MicroBatch {
  int32_t sequence_begin = 0;
  int32_t host_sequence_end = 0;
  int32_t sequence_end = 0;
  int32_t row_begin = 0;
  int32_t host_row_end = 0;
  int32_t row_end = 0;
  int32_t load_begin = 0;  // in Batch::kv_loads()
  int32_t load_end = 0;
  int32_t offload_begin = 0;  // in Batch::kv_offloads()
  int32_t offload_end = 0;
  int32_t output_begin = 0;  // in Batch::last_rows()
  int32_t output_end = 0;

  int32_t num_rows() const { return row_end - row_begin; }
  int32_t num_sequences() const { return sequence_end - sequence_begin; }
  int32_t num_outputs() const { return output_end - output_begin; }
  bool has_host_rows() const { return host_row_end > row_begin; }
  bool has_device_rows() const { return row_end > host_row_end; }
};

class Batch {
 public:
  void Clear();
  // Adds the next `num_step_tokens` tokens of `sequence`. Its block table must hold them.
  void Add(Sequence* sequence);
  // Orders the sequences, cuts them into micro-batches of about equal work and lays out their rows.
  // What follows is valid after it. Balancing is that of MoE-Lightning (appendix A.1): the longest
  // first, each into the part with the fewest tokens so far.
  void Cut(const CutOptions& options);

  int32_t num_rows() const { return num_rows_; }
  int32_t num_sequences() const { return static_cast<int32_t>(sequences_.size()); }
  int32_t num_prefill_tokens() const { return num_prefill_tokens_; }
  int32_t num_decode_tokens() const { return num_rows() - num_prefill_tokens_; }
  Sequence* sequence(int32_t i) const { return sequences_[i]; }
  // The sequences that get a token, in the order of last_rows(): not those whose prompt goes on.
  int32_t num_outputs() const { return static_cast<int32_t>(outputs_.size()); }
  Sequence* output(int32_t i) const { return outputs_[i]; }

  absl::Span<const MicroBatch> micro_batches() const { return micro_batches_; }
  absl::Span<const int32_t> token_ids(const MicroBatch& part) const;
  absl::Span<const int32_t> positions(const MicroBatch& part) const;
  // Rows are counted from the start of the micro-batch; block tables are those of the KV cache.
  absl::Span<const AttentionSequence> host_attention(const MicroBatch& part) const;
  // Rows are counted from host_row_end; block tables name staging pages.
  absl::Span<const AttentionSequence> device_attention(const MicroBatch& part) const;
  // Cache pages to staging pages with cached positions, and staging pages with new ones back.
  absl::Span<const PageCopy> kv_loads(const MicroBatch& part) const;
  absl::Span<const PageCopy> kv_offloads(const MicroBatch& part) const;
  // The row of each output's last token, counted from the start of the batch.
  absl::Span<const int32_t> last_rows() const { return last_rows_; }

 private:
  // A micro-batch in the making.
  struct Part {
    int64_t num_rows = 0;
    int64_t num_context_tokens = 0;  // of its decode tokens
    int64_t num_staging_pages = 0;
  };

  static bool IsDecode(const Sequence& sequence) {
    return sequence.num_cached_tokens > 0 && sequence.num_step_tokens == 1;
  }
  // Positions that its rows see, the last one's own included.
  static int32_t NumContextTokens(const Sequence& sequence) {
    return sequence.num_cached_tokens + sequence.num_step_tokens;
  }
  bool AttendsOnHost(const Sequence& sequence) const;
  int64_t StagingPages(const Sequence& sequence) const;
  // Deals the sequences out to `num_parts` parts; false if one goes over a bound.
  bool Deal(int32_t num_parts);
  void LayOut(Sequence* sequence, MicroBatch* part, int32_t* num_staging_pages);

  CutOptions options_;
  std::vector<Sequence*> sequences_;
  int32_t num_rows_ = 0;
  int32_t num_prefill_tokens_ = 0;
  std::vector<MicroBatch> micro_batches_;
  std::vector<int32_t> token_ids_;            // [num_rows]
  std::vector<int32_t> positions_;            // [num_rows]
  std::vector<AttentionSequence> attention_;  // [num_sequences]
  std::vector<int32_t> last_rows_;            // [num_outputs]
  std::vector<Sequence*> outputs_;            // [num_outputs]
  std::vector<int32_t> staging_pages_;        // block tables of the device, one after another
  std::vector<PageCopy> kv_loads_;
  std::vector<PageCopy> kv_offloads_;
  // Scratch of Cut().
  std::vector<Part> parts_;
  std::vector<int32_t> part_of_;        // [num_sequences]
  std::vector<int32_t> longest_first_;  // [num_sequences]
  std::vector<Sequence*> dealt_;        // [num_sequences]
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SCHEDULER_BATCH_H_
