#include "tests/backend/paged_kv.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

namespace moelight {

struct PagedAttention::Cache {
  std::vector<std::vector<int32_t>> block_tables;
  std::vector<char> pages;
  KvLayerView view;
};

Matrix PagedAttention::Qkv(int64_t s, int32_t begin, int32_t end) const {
  Matrix qkv(end - begin, heads_.qkv_size());
  for (int32_t position = begin; position < end; ++position) {
    const uint32_t seed = static_cast<uint32_t>(1000003 * (s + 1) + position);
    const Matrix row = RandomBf16Matrix(1, heads_.qkv_size(), seed);
    std::copy(row.values.begin(), row.values.end(),
              qkv.values.begin() + (position - begin) * heads_.qkv_size());
    // Queries are not exact in bf16.
    for (int64_t i = 0; i < heads_.q_size(); ++i) {
      qkv.values[(position - begin) * heads_.qkv_size() + i] *= 1.003f * query_scale_;
    }
  }
  return qkv;
}

PagedAttention::Cache PagedAttention::MakeCache(const Backend& backend,
                                                const std::vector<int32_t>& lengths) const {
  Cache cache;
  int32_t num_pages = 1;
  for (int32_t length : lengths) {
    cache.block_tables.emplace_back((length + page_tokens_ - 1) / page_tokens_);
    num_pages += static_cast<int32_t>(cache.block_tables.back().size());
  }
  // Pages are handed out from the last to the second; nobody owns page 0.
  int32_t next = num_pages;
  for (auto& table : cache.block_tables) {
    for (int32_t& page : table) page = --next;
  }
  cache.view.dtype = backend.kv_dtype();
  cache.view.num_pages = num_pages;
  cache.view.page_tokens = page_tokens_;
  // NaN in whatever was not stored, so that reading it shows.
  cache.pages.assign(num_pages * cache.view.page_bytes(heads_), '\xff');
  cache.view.data = cache.pages.data();
  return cache;
}

Matrix PagedAttention::Call(TestBackend& backend, Cache& cache, Matrix qkv,
                            const std::vector<AttentionSequence>& sequences,
                            int32_t sliding_window) const {
  Matrix out(qkv.rows, heads_.q_size());
  out.values.assign(out.values.size(), std::numeric_limits<float>::quiet_NaN());
  AttentionArgs args;
  args.qkv = qkv.view();
  args.heads = heads_;
  args.sequences = sequences;
  args.kv = cache.view;
  args.scale = 1.0f / std::sqrt(static_cast<float>(heads_.head_dim));
  args.sliding_window = sliding_window;
  args.out = out.view();
  args.soft_cap = soft_cap_;
  std::vector<float> sinks = sinks_;
  if (!sinks.empty()) {
    args.sinks = TensorView::Make(sinks.data(), DType::kF32, {static_cast<int64_t>(sinks.size())});
  }
  const absl::Status status = backend.ops().Attention(args);
  CHECK(status.ok()) << status.ToString();
  return out;
}

Matrix PagedAttention::Run(TestBackend& backend, const std::vector<NewTokens>& batch) const {
  OpLimits limits = TestLimits();
  limits.heads = heads_;
  CHECK(backend.backend->Reserve(limits).ok());
  std::vector<int32_t> lengths;
  for (const NewTokens& tokens : batch) lengths.push_back(tokens.num_cached + tokens.num_new);
  Cache cache = MakeCache(*backend.backend, lengths);
  Matrix qkv(0, heads_.qkv_size());
  std::vector<AttentionSequence> sequences;
  for (size_t s = 0; s < batch.size(); ++s) {
    const int32_t num_cached = batch[s].num_cached;
    std::vector<int32_t>& table = cache.block_tables[s];
    for (int32_t begin = 0; begin < num_cached; begin += 256) {
      const int32_t end = std::min(num_cached, begin + 256);
      // Only K and V matter here: tokens that see but themselves are quick.
      Call(backend, cache, Qkv(s, begin, end), {{0, end - begin, begin, table.data()}},
           /*sliding_window=*/1);
    }
    if (drop_pages_before_window_) {
      const int32_t first_seen = std::max(0, num_cached + 1 - sliding_window_);
      std::fill_n(table.begin(), first_seen / page_tokens_, -1);
    }
    const Matrix rows = Qkv(s, num_cached, lengths[s]);
    sequences.push_back(
        {static_cast<int32_t>(qkv.rows), batch[s].num_new, num_cached, table.data()});
    qkv.values.insert(qkv.values.end(), rows.values.begin(), rows.values.end());
    qkv.rows += rows.rows;
  }
  return Call(backend, cache, std::move(qkv), sequences, sliding_window_);
}

Matrix PagedAttention::RunInParts(TestBackend& backend, const std::vector<int32_t>& parts) const {
  OpLimits limits = TestLimits();
  limits.heads = heads_;
  CHECK(backend.backend->Reserve(limits).ok());
  const int32_t length = std::accumulate(parts.begin(), parts.end(), 0);
  Cache cache = MakeCache(*backend.backend, {length});
  Matrix all(0, heads_.q_size());
  int32_t begin = 0;
  for (int32_t part : parts) {
    const Matrix out = Call(backend, cache, Qkv(0, begin, begin + part),
                            {{0, part, begin, cache.block_tables[0].data()}}, sliding_window_);
    all.values.insert(all.values.end(), out.values.begin(), out.values.end());
    all.rows += part;
    begin += part;
  }
  return all;
}

}  // namespace moelight
