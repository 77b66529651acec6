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
    : options_(options), arena_(std::move(arena)), pages_(options.num_pages) {
  for (int32_t i = 0; i < options.num_layers; ++i) {
    layers_.push_back({arena_->Allocate(options.num_pages * options.page_bytes_per_layer()),
                       options.dtype, options.num_pages, options.page_tokens});
  }
  free_pages_.reserve(options.num_pages);
  for (int64_t page = options.num_pages - 1; page >= 0; --page) {
    free_pages_.push_back(static_cast<int32_t>(page));
  }
}

int32_t KvCache::TakeFreePage() {
  if (!free_pages_.empty()) {
    const int32_t page = free_pages_.back();
    free_pages_.pop_back();
    return page;
  }
  const int32_t page = unused_pages_.front();
  if (reclaim_) reclaim_(page);
  Unkeep(page);  // unless reclaim_ has
  CHECK(!free_pages_.empty());
  return TakeFreePage();
}

bool KvCache::Grow(int64_t num_tokens, BlockTable* table) {
  const int64_t num_needed = PagesFor(num_tokens) - static_cast<int64_t>(table->size());
  if (num_needed > num_free_pages()) return false;
  for (int64_t i = 0; i < num_needed; ++i) {
    const int32_t page = TakeFreePage();
    pages_[page].num_users = 1;
    table->push_back(page);
  }
  return true;
}

void KvCache::Release(BlockTable* table) {
  // In reverse, so that the same sequence of Grow calls gets the same pages again, and that of a
  // kept beginning the last page goes first.
  for (auto it = table->rbegin(); it != table->rend(); ++it) {
    Page& page = pages_[*it];
    CHECK_GT(page.num_users, 0);
    if (--page.num_users > 0) continue;
    if (page.is_kept) {
      page.unused = unused_pages_.insert(unused_pages_.end(), *it);
    } else {
      free_pages_.push_back(*it);
    }
  }
  table->clear();
}

void KvCache::Share(int32_t id, BlockTable* table) {
  Page& page = pages_[id];
  CHECK(page.num_users > 0 || page.is_kept);
  if (page.num_users++ == 0) unused_pages_.erase(page.unused);
  table->push_back(id);
}

void KvCache::Keep(int32_t page) {
  CHECK_GT(pages_[page].num_users, 0);
  pages_[page].is_kept = true;
}

void KvCache::Unkeep(int32_t id) {
  Page& page = pages_[id];
  if (!page.is_kept) return;
  page.is_kept = false;
  if (page.num_users > 0) return;
  unused_pages_.erase(page.unused);
  free_pages_.push_back(id);
}

}  // namespace moelight
