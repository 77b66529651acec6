// KvCache: the pool of KV pages of all layers, and BlockTable, one sequence's list of them.
//
// One page id names the same slot in every layer, so a sequence has one block table for the whole
// model. The layout within a page is KvLayerView's (engine/backend/ops.h).
//
// Threads: engine thread only. Owns the page storage. Allocates in Create() and, for block tables,
// at admission. Errors: Create() returns ResourceExhausted.
#ifndef MOELIGHT_ENGINE_MEMORY_KV_CACHE_H_
#define MOELIGHT_ENGINE_MEMORY_KV_CACHE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include <absl/status/statusor.h>

#include "engine/backend/ops.h"
#include "engine/memory/arena.h"

namespace moelight {

// Page ids of one sequence: position p lies in page pages[p / page_tokens].
using BlockTable = std::vector<int32_t>;

struct KvCacheOptions {
  int32_t num_layers = 0;
  HeadGeometry heads;
  DType dtype = DType::kBF16;
  int32_t page_tokens = 16;
  int64_t num_pages = 0;

  int64_t page_bytes_per_layer() const {
    return KvLayerView{nullptr, dtype, num_pages, page_tokens}.page_bytes(heads);
  }
  int64_t page_bytes() const { return num_layers * page_bytes_per_layer(); }  // all layers
  int64_t bytes() const { return num_layers * Arena::AlignUp(num_pages * page_bytes_per_layer()); }
};

class KvCache {
 public:
  // The pages lie in host memory, pinned for `backend` if that copies from there.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(const KvCacheOptions& options,
                                                         Backend& backend, int num_threads);
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(const KvCacheOptions& options);
  // The pages lie in the memory of `backend`.
  static absl::StatusOr<std::unique_ptr<KvCache>> CreateOnDevice(const KvCacheOptions& options,
                                                                 Backend& backend);

  // Pages that hold `num_tokens` positions.
  int64_t PagesFor(int64_t num_tokens) const {
    return (num_tokens + options_.page_tokens - 1) / options_.page_tokens;
  }
  // Adds pages until `table` holds `num_tokens` positions; false, and nothing added, if too few are
  // free.
  bool Grow(int64_t num_tokens, BlockTable* table);
  // Gives all pages of `table` back and clears it.
  void Release(BlockTable* table);

  KvLayerView layer(int32_t layer) const { return layers_[layer]; }
  int64_t num_pages() const { return options_.num_pages; }
  int64_t num_free_pages() const { return static_cast<int64_t>(free_pages_.size()); }
  int32_t page_tokens() const { return options_.page_tokens; }
  const KvCacheOptions& options() const { return options_; }
  // OK, or why the system did not allow to pin the pages.
  const absl::Status& pinned() const { return pinned_; }

 private:
  KvCache(const KvCacheOptions& options, std::unique_ptr<Arena> arena);

  const KvCacheOptions options_;
  std::unique_ptr<Arena> arena_;
  absl::Status pinned_;
  std::vector<KvLayerView> layers_;
  // A stack: the page freed last is handed out first, so that only as much memory is ever touched
  // as was in use at once.
  std::vector<int32_t> free_pages_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MEMORY_KV_CACHE_H_
