// KvCache: the pool of KV pages of all layers, and BlockTable, one sequence's list of them.
//
// One page id names the same slot in every layer, so a sequence has one block table for the whole
// model. The layout within a page is KvLayerView's (engine/backend/ops.h).
//
// A page may be in several tables: whoever shares it only reads it. A page that is in none is free;
// if it was kept, for what it holds, it is handed out last and may be shared again until then.
//
// Threads: engine thread only. Owns the page storage. Allocates in Create() and, for block tables,
// as they grow. Errors: Create() returns ResourceExhausted.
#ifndef MOELIGHT_ENGINE_MEMORY_KV_CACHE_H_
#define MOELIGHT_ENGINE_MEMORY_KV_CACHE_H_

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <utility>
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

  // Adds `page`, which is in a table or kept, to `table`.
  void Share(int32_t page, BlockTable* table);
  // Keeps what `page` holds once no table has it any more, as long as it is not needed.
  void Keep(int32_t page);
  void Unkeep(int32_t page);
  // Called with a kept page that is about to be handed out; it is not kept any more.
  void OnReclaim(std::function<void(int32_t page)> reclaim) { reclaim_ = std::move(reclaim); }
  // Tables that have `page`.
  int32_t num_users(int32_t page) const { return pages_[page].num_users; }

  KvLayerView layer(int32_t layer) const { return layers_[layer]; }
  int64_t num_pages() const { return options_.num_pages; }
  // In no table, kept ones too.
  int64_t num_free_pages() const {
    return static_cast<int64_t>(free_pages_.size() + unused_pages_.size());
  }
  int32_t page_tokens() const { return options_.page_tokens; }
  const KvCacheOptions& options() const { return options_; }
  // OK, or why the system did not allow to pin the pages.
  const absl::Status& pinned() const { return pinned_; }

 private:
  struct Page {
    int32_t num_users = 0;
    bool is_kept = false;
    std::list<int32_t>::iterator unused = {};  // its place, if kept and without users
  };

  KvCache(const KvCacheOptions& options, std::unique_ptr<Arena> arena);
  int32_t TakeFreePage();

  const KvCacheOptions options_;
  std::unique_ptr<Arena> arena_;
  absl::Status pinned_;
  std::vector<KvLayerView> layers_;
  // A stack: the page freed last is handed out first, so that only as much memory is ever touched
  // as was in use at once.
  std::vector<int32_t> free_pages_;
  std::list<int32_t> unused_pages_;  // kept and in no table, the longest unused first
  std::vector<Page> pages_;
  std::function<void(int32_t)> reclaim_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MEMORY_KV_CACHE_H_
