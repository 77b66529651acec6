#include "engine/memory/kv_cache.h"

#include <utility>

#include "engine/base/status_macros.h"

namespace moelight {

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(const KvCacheOptions& options) {
  CHECK_GT(options.num_pages, 0);
  ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena, Arena::Create("the KV cache", options.bytes()));
  return std::unique_ptr<KvCache>(new KvCache(options, std::move(arena)));
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(const KvCacheOptions& options,
                                                         Backend& backend, int num_threads) {
  ASSIGN_OR_RETURN(std::unique_ptr<KvCache> cache, Create(options));
  cache->pinned_ = cache->arena_->Pin(backend, num_threads);
  return cache;
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::CreateOnDevice(const KvCacheOptions& options,
                                                                 Backend& backend) {
  CHECK_GT(options.num_pages, 0);
  ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena,
                   Arena::CreateOnDevice("the KV cache", options.bytes(), backend));
  return std::unique_ptr<KvCache>(new KvCache(options, std::move(arena)));
}

KvCache::KvCache(const KvCacheOptions& options, std::unique_ptr<Arena> arena)
    : options_(options), arena_(std::move(arena)) {
  for (int32_t i = 0; i < options.num_layers; ++i) {
    layers_.push_back({arena_->Allocate(options.num_pages * options.page_bytes_per_layer()),
                       options.dtype, options.num_pages, options.page_tokens});
  }
  free_pages_.reserve(options.num_pages);
  for (int64_t page = options.num_pages - 1; page >= 0; --page) {
    free_pages_.push_back(static_cast<int32_t>(page));
  }
}

bool KvCache::Grow(int64_t num_tokens, BlockTable* table) {
  const int64_t num_needed = PagesFor(num_tokens) - static_cast<int64_t>(table->size());
  if (num_needed > num_free_pages()) return false;
  for (int64_t i = 0; i < num_needed; ++i) {
    table->push_back(free_pages_.back());
    free_pages_.pop_back();
  }
  return true;
}

void KvCache::Release(BlockTable* table) {
  // In reverse, so that the same sequence of Grow calls gets the same pages again.
  for (auto page = table->rbegin(); page != table->rend(); ++page) free_pages_.push_back(*page);
  table->clear();
  DCHECK(num_free_pages() <= num_pages());
}

}  // namespace moelight
