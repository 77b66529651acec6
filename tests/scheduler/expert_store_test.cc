// Goal: every page of expert weights has one place, the ring is never asked for more than it has,
// and what a step loads is found where the ops look for it, over the ring's seam and over steps.
#include "engine/memory/expert_store.h"

#include <cstring>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

namespace moelight {
namespace {

constexpr int64_t kPageBytes = 256;

int64_t Sum(const std::vector<int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

TEST(PlanExpertStoreTest, EverythingResidentIfItFits) {
  const auto options = PlanExpertStore(kPageBytes, {4, 0, 4}, 8);
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->resident_pages, (std::vector<int64_t>{4, 0, 4}));
  EXPECT_EQ(options->num_ring_slots, 0);
  EXPECT_EQ(options->device_bytes(), 8 * kPageBytes);
}

TEST(PlanExpertStoreTest, LessThanALayerIsRefusedWithTheLeastThatIsNeeded) {
  const auto options = PlanExpertStore(kPageBytes, {4, 5, 4}, 4);
  EXPECT_EQ(options.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(options.status().message().find("1280 bytes"), absl::string_view::npos);
}

// All sizes of memory between one layer and everything: nothing wasted that could be resident,
// never more than there is, and a ring that holds two layers as soon as there is room for them.
TEST(PlanExpertStoreTest, UsesWhatThereIs) {
  const std::vector<std::vector<int64_t>> models = {
      {10, 10, 10, 10}, {0, 10, 10, 10, 10}, {7, 3, 9, 1}, {10}, {168, 168, 168}};
  for (const std::vector<int64_t>& layer_pages : models) {
    const int64_t largest = *std::max_element(layer_pages.begin(), layer_pages.end());
    int64_t last_resident = 0;
    for (int64_t num_pages = largest; num_pages < Sum(layer_pages); ++num_pages) {
      const auto options = PlanExpertStore(kPageBytes, layer_pages, num_pages);
      ASSERT_TRUE(options.ok());
      EXPECT_LE(options->num_resident_pages() + options->num_ring_slots, num_pages);
      EXPECT_GE(options->num_resident_pages(), last_resident);
      last_resident = options->num_resident_pages();
      for (size_t layer = 0; layer < layer_pages.size(); ++layer) {
        EXPECT_GE(options->resident_pages[layer], 0);
        EXPECT_LE(options->streamed_pages(static_cast<int32_t>(layer)), options->num_ring_slots);
      }
    }
  }
}

// A ratio too small for one expert, or even for one page of every layer, is used all the same.
TEST(PlanExpertStoreTest, AFewResidentPagesAreSpread) {
  const auto options = PlanExpertStore(kPageBytes, std::vector<int64_t>(8, 10), 22);
  ASSERT_TRUE(options.ok());
  EXPECT_GE(options->num_resident_pages(), 2);
  EXPECT_LT(options->num_resident_pages(), 8);
}

class ExpertStoreTest : public testing::TestWithParam<int64_t /*device pages*/> {};

TEST_P(ExpertStoreTest, PagesAreFoundWhereTheyWereLoaded) {
  const std::vector<int64_t> layer_pages = {5, 0, 6, 5, 5};
  const auto options = PlanExpertStore(kPageBytes, layer_pages, GetParam());
  ASSERT_TRUE(options.ok());
  std::vector<char> home(Sum(layer_pages) * kPageBytes);
  for (size_t i = 0; i < home.size(); ++i) home[i] = static_cast<char>(i * 7 + i / kPageBytes);
  const std::unique_ptr<Backend> backend = *CreateBackend("reference", {});
  const auto store = ExpertStore::Create(*options, home.data(), *backend);
  ASSERT_TRUE(store.ok());
  const int32_t num_layers = static_cast<int32_t>(layer_pages.size());
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    std::memcpy((*store)->resident(layer), (*store)->layer_home(layer),
                (*store)->resident_bytes(layer));
  }
  const auto load = [&](int32_t layer, int64_t begin, int64_t end, bool ahead) {
    if (begin == end) return;
    for (const PageRun& run : (*store)->Runs(layer, begin, end, ahead)) {
      std::memcpy(run.dst, run.src, run.bytes);
    }
  };
  for (int step = 0; step < 7; ++step) {
    for (int32_t layer = 0; layer < num_layers; ++layer) {
      const int64_t streamed = options->streamed_pages(layer);
      // Layer 0 was loaded ahead by the step before.
      if (layer > 0 || step == 0) {
        load(layer, 0, streamed / 2, false);
        load(layer, streamed / 2, streamed, false);
      }
      const WeightPages pages = (*store)->pages(layer);
      for (int64_t page = 0; page < layer_pages[layer]; ++page) {
        EXPECT_EQ(std::memcmp(pages.Address(page), pages.storage + page * kPageBytes, kPageBytes),
                  0)
            << "step " << step << ", layer " << layer << ", page " << page;
      }
    }
    load(0, 0, options->streamed_pages(0), true);
    (*store)->EndStep();
  }
}

INSTANTIATE_TEST_SUITE_P(DevicePages, ExpertStoreTest, testing::Values(6, 9, 12, 15, 20));

}  // namespace
}  // namespace moelight
