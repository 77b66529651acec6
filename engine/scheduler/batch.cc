#include "engine/scheduler/batch.h"

#include <algorithm>
#include <numeric>

#include "engine/base/ceil_div.h"
#include "engine/base/check.h"

namespace moelight {

void Batch::Clear() {
  sequences_.clear();
  outputs_.clear();
  micro_batches_.clear();
  num_rows_ = 0;
  num_prefill_tokens_ = 0;
}

void Batch::Add(Sequence* sequence) {
  CHECK_GT(sequence->num_step_tokens, 0);
  CHECK_LE(sequence->num_step_tokens, sequence->num_missing_tokens());
  num_rows_ += sequence->num_step_tokens;
  if (!IsDecode(*sequence)) num_prefill_tokens_ += sequence->num_step_tokens;
  sequences_.push_back(sequence);
}

bool Batch::AttendsOnHost(const Sequence& sequence) const {
  return options_.attention == AttentionPlacement::kHost ||
         (options_.attention == AttentionPlacement::kPrefillOnDevice && IsDecode(sequence));
}

int64_t Batch::StagingPages(const Sequence& sequence) const {
  return AttendsOnHost(sequence) ? 0 : CeilDiv(NumContextTokens(sequence), options_.kv_page_tokens);
}

void Batch::Cut(const CutOptions& options) {
  CHECK_GE(options.num_micro_batches, 1);
  CHECK_GE(options.min_rows, 1);
  CHECK(!sequences_.empty());
  CHECK(options.attention == AttentionPlacement::kHost || options.kv_page_tokens > 0);
  options_ = options;
  longest_first_.resize(sequences_.size());
  std::iota(longest_first_.begin(), longest_first_.end(), 0);
  std::stable_sort(longest_first_.begin(), longest_first_.end(), [this](int32_t a, int32_t b) {
    return NumContextTokens(*sequences_[a]) > NumContextTokens(*sequences_[b]);
  });
  int32_t num_parts = std::clamp(num_rows_ / options.min_rows, 1,
                                 std::min(options.num_micro_batches, num_sequences()));
  if (options.max_rows > 0) {
    num_parts = std::max<int32_t>(num_parts, CeilDiv(num_rows_, options.max_rows));
  }
  while (num_parts < num_sequences() && !Deal(num_parts)) ++num_parts;
  if (num_parts >= num_sequences()) Deal(num_parts = num_sequences());

  micro_batches_.clear();
  token_ids_.clear();
  positions_.clear();
  attention_.clear();
  last_rows_.clear();
  outputs_.clear();
  staging_pages_.clear();
  kv_loads_.clear();
  kv_offloads_.clear();
  // Block tables are pointed to, so the vector must not move.
  int64_t num_staging_pages = 0;
  for (const Part& part : parts_) num_staging_pages += part.num_staging_pages;
  staging_pages_.reserve(num_staging_pages);
  dealt_.clear();
  for (int32_t index = 0; index < num_parts; ++index) {
    MicroBatch part;
    part.sequence_begin = part.host_sequence_end = static_cast<int32_t>(dealt_.size());
    part.row_begin = part.host_row_end = static_cast<int32_t>(token_ids_.size());
    part.load_begin = static_cast<int32_t>(kv_loads_.size());
    part.offload_begin = static_cast<int32_t>(kv_offloads_.size());
    part.output_begin = static_cast<int32_t>(last_rows_.size());
    int32_t num_used_staging_pages = 0;
    for (const bool on_host : {true, false}) {
      for (int32_t i = 0; i < num_sequences(); ++i) {
        if (part_of_[i] != index || AttendsOnHost(*sequences_[i]) != on_host) continue;
        LayOut(sequences_[i], &part, &num_used_staging_pages);
      }
    }
    part.sequence_end = static_cast<int32_t>(dealt_.size());
    part.row_end = static_cast<int32_t>(token_ids_.size());
    part.load_end = static_cast<int32_t>(kv_loads_.size());
    part.offload_end = static_cast<int32_t>(kv_offloads_.size());
    part.output_end = static_cast<int32_t>(last_rows_.size());
    if (part.num_sequences() > 0) micro_batches_.push_back(part);
  }
  sequences_.swap(dealt_);
}

bool Batch::Deal(int32_t num_parts) {
  parts_.assign(num_parts, Part());
  part_of_.resize(sequences_.size());
  // Decode tokens cost what they attend to; then prompts even out the rows.
  for (const bool decode : {true, false}) {
    const auto load = [decode](const Part& part) {
      return decode ? part.num_context_tokens : part.num_rows;
    };
    for (int32_t i : longest_first_) {
      const Sequence& sequence = *sequences_[i];
      if (IsDecode(sequence) != decode) continue;
      auto part =
          std::min_element(parts_.begin(), parts_.end(),
                           [&load](const Part& a, const Part& b) { return load(a) < load(b); });
      part->num_rows += sequence.num_step_tokens;
      if (decode) part->num_context_tokens += NumContextTokens(sequence);
      part->num_staging_pages += StagingPages(sequence);
      part_of_[i] = static_cast<int32_t>(part - parts_.begin());
    }
  }
  return std::all_of(parts_.begin(), parts_.end(), [this](const Part& part) {
    return (options_.max_rows == 0 || part.num_rows <= options_.max_rows) &&
           (options_.max_staging_pages == 0 ||
            part.num_staging_pages <= options_.max_staging_pages);
  });
}

void Batch::LayOut(Sequence* sequence, MicroBatch* part, int32_t* num_staging_pages) {
  const bool on_host = AttendsOnHost(*sequence);
  const int32_t cached = sequence->num_cached_tokens;
  const int32_t count = sequence->num_step_tokens;
  const int32_t first_row = static_cast<int32_t>(token_ids_.size());
  for (int32_t i = cached; i < cached + count; ++i) {
    token_ids_.push_back(sequence->tokens[i]);
    positions_.push_back(i);
  }
  if (sequence->has_output()) {
    last_rows_.push_back(first_row + count - 1);
    outputs_.push_back(sequence);
  }
  dealt_.push_back(sequence);
  if (on_host) {
    attention_.push_back(
        {first_row - part->row_begin, count, cached, sequence->block_table.data()});
    part->host_sequence_end = static_cast<int32_t>(dealt_.size());
    part->host_row_end = first_row + count;
    return;
  }
  const int32_t page_tokens = options_.kv_page_tokens;
  const int32_t num_pages = static_cast<int32_t>(StagingPages(*sequence));
  const int32_t first_page = *num_staging_pages;
  *num_staging_pages += num_pages;
  attention_.push_back({first_row - part->host_row_end, count, cached,
                        staging_pages_.data() + staging_pages_.size()});
  for (int32_t page = 0; page < num_pages; ++page) {
    const int32_t cache_page = sequence->block_table[page];
    const int32_t staging_page = first_page + page;
    staging_pages_.push_back(staging_page);
    if (page * page_tokens < cached) kv_loads_.push_back({cache_page, staging_page});
    if ((page + 1) * page_tokens > cached) kv_offloads_.push_back({staging_page, cache_page});
  }
}

absl::Span<const int32_t> Batch::token_ids(const MicroBatch& part) const {
  return absl::MakeConstSpan(token_ids_).subspan(part.row_begin, part.num_rows());
}

absl::Span<const int32_t> Batch::positions(const MicroBatch& part) const {
  return absl::MakeConstSpan(positions_).subspan(part.row_begin, part.num_rows());
}

absl::Span<const AttentionSequence> Batch::host_attention(const MicroBatch& part) const {
  return absl::MakeConstSpan(attention_)
      .subspan(part.sequence_begin, part.host_sequence_end - part.sequence_begin);
}

absl::Span<const AttentionSequence> Batch::device_attention(const MicroBatch& part) const {
  return absl::MakeConstSpan(attention_)
      .subspan(part.host_sequence_end, part.sequence_end - part.host_sequence_end);
}

absl::Span<const PageCopy> Batch::kv_loads(const MicroBatch& part) const {
  return absl::MakeConstSpan(kv_loads_).subspan(part.load_begin, part.load_end - part.load_begin);
}

absl::Span<const PageCopy> Batch::kv_offloads(const MicroBatch& part) const {
  return absl::MakeConstSpan(kv_offloads_)
      .subspan(part.offload_begin, part.offload_end - part.offload_begin);
}

}  // namespace moelight
