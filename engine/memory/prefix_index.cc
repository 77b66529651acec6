#include "engine/memory/prefix_index.h"

#include <utility>

#include "engine/base/check.h"

namespace moelight {
namespace {

std::vector<int32_t> Copy(absl::Span<const int32_t> tokens) {
  return std::vector<int32_t>(tokens.begin(), tokens.end());
}

}  // namespace

PrefixIndex::PrefixIndex(KvCache& kv_cache) : kv_cache_(kv_cache) {
  kv_cache_.OnReclaim([this](int32_t page) { Erase(node_of_page_.at(page)); });
}

PrefixIndex::~PrefixIndex() {
  for (const auto& [page, node] : node_of_page_) kv_cache_.Unkeep(page);
  kv_cache_.OnReclaim(nullptr);
}

PrefixIndex::NodeId PrefixIndex::AddScope() {
  const NodeId root = next_id_++;
  nodes_.try_emplace(root);
  return root;
}

void PrefixIndex::DropScope(NodeId root) { Erase(root); }

PrefixIndex::Match PrefixIndex::Find(NodeId root, absl::Span<const int32_t> tokens) const {
  const size_t page_tokens = kv_cache_.page_tokens();
  Match match;
  match.node = root;
  for (size_t begin = 0; begin + page_tokens <= tokens.size(); begin += page_tokens) {
    const auto id = ids_.find(Key{match.node, Copy(tokens.subspan(begin, page_tokens))});
    if (id == ids_.end()) break;
    if (nodes_.at(id->second).page == kNoPage) {
      match.next_is_computed = true;
      break;
    }
    match.node = id->second;
    ++match.num_pages;
  }
  return match;
}

void PrefixIndex::Share(const Match& match, BlockTable* table) {
  CHECK(table->empty());
  BlockTable pages;
  NodeId id = match.node;
  for (int32_t i = 0; i < match.num_pages; ++i) {
    const Node& node = nodes_.at(id);
    pages.push_back(node.page);
    id = node.key.parent;
  }
  for (auto page = pages.rbegin(); page != pages.rend(); ++page) kv_cache_.Share(*page, table);
}

PrefixIndex::NodeId PrefixIndex::BeginPending(NodeId parent,
                                              absl::Span<const int32_t> page_tokens) {
  Key key{parent, Copy(page_tokens)};
  if (!nodes_.contains(parent) || ids_.contains(key)) return kNone;
  return Insert(std::move(key), kNoPage);
}

void PrefixIndex::EndPending(NodeId pending) {
  // It went with its scope or with the page in front of it.
  if (pending == kNone || !nodes_.contains(pending)) return;
  CHECK_EQ(nodes_.at(pending).page, kNoPage);
  Erase(pending);
}

PrefixIndex::NodeId PrefixIndex::Add(NodeId parent, absl::Span<const int32_t> page_tokens,
                                     int32_t page) {
  // What is behind a page that was reclaimed meanwhile could not be found.
  if (!nodes_.contains(parent)) return kNone;
  Key key{parent, Copy(page_tokens)};
  const auto known = ids_.find(key);
  if (known != ids_.end() && nodes_.at(known->second).page != kNoPage) return known->second;
  if (known != ids_.end()) return kNone;  // someone else announced it and will add it
  if (node_of_page_.contains(page)) return kNone;
  kv_cache_.Keep(page);
  return Insert(std::move(key), page);
}

PrefixIndex::NodeId PrefixIndex::Insert(Key key, int32_t page) {
  const NodeId id = next_id_++;
  nodes_.at(key.parent).children.insert(id);
  ids_.emplace(key, id);
  if (page != kNoPage) node_of_page_.emplace(page, id);
  nodes_.emplace(id, Node{std::move(key), page, {}});
  return id;
}

void PrefixIndex::Erase(NodeId id) {
  const auto parent = nodes_.find(nodes_.at(id).key.parent);
  if (parent != nodes_.end()) parent->second.children.erase(id);
  std::vector<NodeId> erased = {id};
  while (!erased.empty()) {
    const auto node = nodes_.find(erased.back());
    erased.pop_back();
    for (const NodeId child : node->second.children) erased.push_back(child);
    if (node->second.page != kNoPage) {
      node_of_page_.erase(node->second.page);
      kv_cache_.Unkeep(node->second.page);
    }
    ids_.erase(node->second.key);
    nodes_.erase(node);
  }
}

}  // namespace moelight
