#include "engine/memory/expert_store.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

int64_t Sum(const std::vector<int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

// Spreads `num_resident` pages over the layers that have pages.
std::vector<int64_t> Spread(const std::vector<int64_t>& layer_pages, int64_t num_resident) {
  const int64_t num_pages = Sum(layer_pages);
  std::vector<int64_t> resident;
  int64_t seen = 0;
  for (int64_t pages : layer_pages) {
    const int64_t before = num_resident * seen / num_pages;
    seen += pages;
    resident.push_back(num_resident * seen / num_pages - before);
  }
  return resident;
}

}  // namespace

int64_t ExpertStoreOptions::num_pages() const { return Sum(layer_pages); }

int64_t ExpertStoreOptions::num_resident_pages() const { return Sum(resident_pages); }

absl::StatusOr<ExpertStoreOptions> PlanExpertStore(int64_t page_bytes,
                                                   const std::vector<int64_t>& layer_pages,
                                                   int64_t num_device_pages, int32_t ring_percent) {
  CHECK_GE(ring_percent, 100);
  ExpertStoreOptions options;
  options.page_bytes = page_bytes;
  options.layer_pages = layer_pages;
  const int64_t num_pages = options.num_pages();
  if (num_pages <= num_device_pages) {
    options.resident_pages = layer_pages;
    return options;
  }
  const int64_t largest = *std::max_element(layer_pages.begin(), layer_pages.end());
  if (num_device_pages < largest) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the experts of one layer take ", largest * page_bytes, " bytes of GPU memory, and ",
        std::max<int64_t>(0, num_device_pages) * page_bytes, " bytes are left for them"));
  }
  // Resident pages make layers shorter, and shorter layers need a smaller ring: the most resident
  // pages for which both fit.
  int64_t low = 0;
  int64_t high = num_device_pages;
  const auto ring_of = [&](int64_t num_resident) {
    const std::vector<int64_t> resident = Spread(layer_pages, num_resident);
    int64_t most_of_one = 0;
    int64_t most_of_two = 0;
    // The next step's first layer follows the last.
    int64_t last = layer_pages.back() - resident.back();
    for (size_t layer = 0; layer < layer_pages.size(); ++layer) {
      const int64_t streamed = layer_pages[layer] - resident[layer];
      most_of_one = std::max(most_of_one, streamed);
      most_of_two = std::max(most_of_two, last + streamed);
      last = streamed;
    }
    return std::min(most_of_two, (most_of_one * ring_percent + 99) / 100);
  };
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (middle + ring_of(middle) <= num_device_pages) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  options.resident_pages = Spread(layer_pages, low);
  // With less memory than that nothing is resident and the ring is what there is.
  options.num_ring_slots = std::min(num_device_pages - low, ring_of(low));
  return options;
}

absl::StatusOr<std::unique_ptr<ExpertStore>> ExpertStore::Create(const ExpertStoreOptions& options,
                                                                 const char* home,
                                                                 Backend& backend) {
  ASSIGN_OR_RETURN(std::unique_ptr<DeviceBuffer> device,
                   backend.AllocateDevice("the experts", options.device_bytes()));
  return std::unique_ptr<ExpertStore>(new ExpertStore(options, std::move(device), home));
}

ExpertStore::ExpertStore(const ExpertStoreOptions& options, std::unique_ptr<DeviceBuffer> device,
                         const char* home)
    : options_(options), device_(std::move(device)) {
  char* resident = device_->data() + options.num_ring_slots * options.page_bytes;
  for (size_t layer = 0; layer < options.layer_pages.size(); ++layer) {
    layers_.push_back({home, resident, num_streamed_});
    home += options.layer_pages[layer] * options.page_bytes;
    resident += options.resident_pages[layer] * options.page_bytes;
    num_streamed_ += options.streamed_pages(static_cast<int32_t>(layer));
  }
}

WeightPages ExpertStore::pages(int32_t layer) const {
  WeightPages pages;
  pages.storage = layers_[layer].home;
  pages.page_bytes = options_.page_bytes;
  pages.num_resident = options_.resident_pages[layer];
  pages.resident = layers_[layer].resident;
  pages.ring = device_->data();
  pages.num_ring_slots = options_.num_ring_slots;
  if (options_.num_ring_slots > 0) pages.first_slot = FirstSlot(layer);
  return pages;
}

std::array<PageRun, 2> ExpertStore::Runs(int32_t layer, int64_t begin, int64_t end,
                                         bool ahead) const {
  const int64_t num_slots = options_.num_ring_slots;
  const int64_t slot = (FirstSlot(layer) + begin + (ahead ? num_streamed_ : 0)) % num_slots;
  const int64_t count = end - begin;
  CHECK_LE(count, num_slots);
  const int64_t before_end = std::min(count, num_slots - slot);
  const char* src =
      layers_[layer].home + (options_.resident_pages[layer] + begin) * options_.page_bytes;
  char* ring = device_->data();
  return {
      {{src, ring + slot * options_.page_bytes, before_end * options_.page_bytes},
       {src + before_end * options_.page_bytes, ring, (count - before_end) * options_.page_bytes}}};
}

}  // namespace moelight
