// PrefixIndex: which KV pages hold which beginnings of prompts, so that equal beginnings are
// computed once and their pages shared.
//
// Prompts are compared page by page, token by token: a tree whose edges are the tokens of one full
// page. Only full pages are shared, and nobody writes to a full page again, so a shared page is
// never copied; what lies beyond the last full page each sequence computes for itself. Prompts are
// compared within a scope only, one tree each.
//
// A page stays in the index until the cache needs it for something else or its scope is dropped.
// While one sequence computes a page, others that begin with it can see so and wait.
//
// Threads: engine thread. Borrows the KvCache, whose OnReclaim it takes. Allocates per page of a
// new beginning. No errors.
#ifndef MOELIGHT_ENGINE_MEMORY_PREFIX_INDEX_H_
#define MOELIGHT_ENGINE_MEMORY_PREFIX_INDEX_H_

#include <cstdint>
#include <utility>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/types/span.h>

#include "engine/memory/kv_cache.h"

namespace moelight {

class PrefixIndex {
 public:
  using NodeId = int64_t;
  static constexpr NodeId kNone = 0;

  // How far a prompt is known.
  struct Match {
    NodeId node = kNone;            // of its last known page, or the scope's root
    int32_t num_pages = 0;          // known and computed
    bool next_is_computed = false;  // whether the page behind is being computed now
  };

  explicit PrefixIndex(KvCache& kv_cache);
  ~PrefixIndex();
  PrefixIndex(const PrefixIndex&) = delete;
  PrefixIndex& operator=(const PrefixIndex&) = delete;

  NodeId AddScope();
  // Forgets all pages of the scope.
  void DropScope(NodeId root);

  // `tokens`: what may be shared; whole pages of it are looked for.
  Match Find(NodeId root, absl::Span<const int32_t> tokens) const;
  // Adds the pages of `match` to `table`, which is empty.
  void Share(const Match& match, BlockTable* table);

  // Someone is about to compute the page with `page_tokens` behind `parent`. Returns what to give
  // to EndPending(); kNone if it is known or announced already.
  NodeId BeginPending(NodeId parent, absl::Span<const int32_t> page_tokens);
  // Will not be computed after all, or was and follows as Add().
  void EndPending(NodeId pending);
  // `page` holds `page_tokens` behind `parent`, computed. Returns its node: another one's, and
  // `page` is not kept, if there is one with the same tokens.
  NodeId Add(NodeId parent, absl::Span<const int32_t> page_tokens, int32_t page);

  int64_t num_pages() const { return static_cast<int64_t>(node_of_page_.size()); }

 private:
  struct Key {
    NodeId parent = kNone;
    std::vector<int32_t> tokens;
    bool operator==(const Key& other) const {
      return parent == other.parent && tokens == other.tokens;
    }
    template <typename H>
    friend H AbslHashValue(H hash, const Key& key) {
      return H::combine(std::move(hash), key.parent, key.tokens);
    }
  };
  struct Node {
    Key key;
    int32_t page = kNoPage;  // none: a root, or pending
    absl::flat_hash_set<NodeId> children;
  };
  static constexpr int32_t kNoPage = -1;

  NodeId Insert(Key key, int32_t page);
  // With everything behind it.
  void Erase(NodeId id);

  KvCache& kv_cache_;
  NodeId next_id_ = 1;
  absl::flat_hash_map<NodeId, Node> nodes_;
  absl::flat_hash_map<Key, NodeId> ids_;
  absl::flat_hash_map<int32_t, NodeId> node_of_page_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MEMORY_PREFIX_INDEX_H_
