// Goal: pages are handed out once, come back once, and layers do not overlap.
#include "engine/memory/kv_cache.h"

#include <set>

#include <gtest/gtest.h>

namespace moelight {
namespace {

KvCacheOptions SmallOptions() {
  KvCacheOptions options;
  options.num_layers = 3;
  options.heads = {.num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 8};
  options.page_tokens = 4;
  options.num_pages = 10;
  return options;
}

TEST(KvCacheTest, GrowAndRelease) {
  auto cache = KvCache::Create(SmallOptions());
  ASSERT_TRUE(cache.ok());
  struct Case {
    int64_t num_tokens;
    size_t num_pages;
  };
  BlockTable table;
  for (const Case& c : {Case{1, 1}, Case{4, 1}, Case{5, 2}, Case{3, 2}, Case{40, 10}}) {
    EXPECT_TRUE((*cache)->Grow(c.num_tokens, &table));
    EXPECT_EQ(table.size(), c.num_pages) << c.num_tokens;
    EXPECT_EQ((*cache)->num_free_pages(), 10 - static_cast<int64_t>(c.num_pages));
  }
  EXPECT_EQ(std::set<int32_t>(table.begin(), table.end()).size(), 10u);
  BlockTable other;
  EXPECT_FALSE((*cache)->Grow(1, &other));
  EXPECT_TRUE(other.empty());
  (*cache)->Release(&table);
  EXPECT_TRUE(table.empty());
  EXPECT_EQ((*cache)->num_free_pages(), 10);
}

TEST(KvCacheTest, RefusedGrowthTakesNothing) {
  auto cache = KvCache::Create(SmallOptions());
  ASSERT_TRUE(cache.ok());
  BlockTable table;
  EXPECT_FALSE((*cache)->Grow(41, &table));
  EXPECT_TRUE(table.empty());
  EXPECT_EQ((*cache)->num_free_pages(), 10);
}

TEST(KvCacheTest, FreedPagesAreReusedFirst) {
  auto cache = KvCache::Create(SmallOptions());
  ASSERT_TRUE(cache.ok());
  BlockTable first;
  ASSERT_TRUE((*cache)->Grow(8, &first));
  const BlockTable pages = first;
  (*cache)->Release(&first);
  BlockTable second;
  ASSERT_TRUE((*cache)->Grow(8, &second));
  EXPECT_EQ(second, pages);
}

TEST(KvCacheTest, LayersDoNotOverlap) {
  auto cache = KvCache::Create(SmallOptions());
  ASSERT_TRUE(cache.ok());
  const int64_t layer_bytes = 10 * SmallOptions().page_bytes_per_layer();
  for (int32_t i = 0; i + 1 < 3; ++i) {
    const char* here = static_cast<char*>((*cache)->layer(i).data);
    const char* next = static_cast<char*>((*cache)->layer(i + 1).data);
    EXPECT_GE(next - here, layer_bytes);
  }
}

}  // namespace
}  // namespace moelight
