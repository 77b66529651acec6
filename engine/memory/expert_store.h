// ExpertStore: where every page of expert weights is in device memory: resident for good, or in the
// ring that streamed pages go round.
//
// In each layer the first pages are resident and the others are streamed, spread evenly over the
// layers, so that every layer takes the link about as long. The ring goes on from step to step
// without a seam.
//
// Threads: engine thread. Owns the device memory; borrows the weights' home in host memory.
// Allocates in Create() only. Errors: Create() returns ResourceExhausted.
#ifndef MOELIGHT_ENGINE_MEMORY_EXPERT_STORE_H_
#define MOELIGHT_ENGINE_MEMORY_EXPERT_STORE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include <absl/status/statusor.h>

#include "engine/backend/backend.h"

namespace moelight {

struct ExpertStoreOptions {
  int64_t page_bytes = 0;
  std::vector<int64_t> layer_pages;     // of each layer's experts; 0 for a dense layer
  std::vector<int64_t> resident_pages;  // of those, kept in device memory
  int64_t num_ring_slots = 0;           // 0: everything is resident

  int64_t num_pages() const;
  int64_t num_resident_pages() const;
  int64_t streamed_pages(int32_t layer) const { return layer_pages[layer] - resident_pages[layer]; }
  int64_t device_bytes() const { return (num_resident_pages() + num_ring_slots) * page_bytes; }
};

// Divides `num_device_pages` of memory between ring and resident pages. The ring takes
// `ring_percent` (at least 100) of the streamed pages of a layer, up to two layers, or what there
// is; the rest is resident. One layer is in use while what the ring holds beyond it is filled, so
// the link stands still unless that part takes longer to copy than the device takes to use a layer.
// ResourceExhausted naming the least memory if not even one layer fits.
absl::StatusOr<ExpertStoreOptions> PlanExpertStore(int64_t page_bytes,
                                                   const std::vector<int64_t>& layer_pages,
                                                   int64_t num_device_pages,
                                                   int32_t ring_percent = 200);

// One copy from a page's home to its place.
struct PageRun {
  const char* src = nullptr;
  char* dst = nullptr;
  int64_t bytes = 0;
};

class ExpertStore {
 public:
  // `home`: host memory of the first layer's page 0; layers follow each other in whole pages.
  static absl::StatusOr<std::unique_ptr<ExpertStore>> Create(const ExpertStoreOptions& options,
                                                             const char* home, Backend& backend);

  const ExpertStoreOptions& options() const { return options_; }
  // Home of a layer's page 0, and bytes of its resident pages, which come first.
  const char* layer_home(int32_t layer) const { return layers_[layer].home; }
  int64_t resident_bytes(int32_t layer) const {
    return options_.resident_pages[layer] * options_.page_bytes;
  }
  char* resident(int32_t layer) const { return layers_[layer].resident; }

  // For the ops of the current step.
  WeightPages pages(int32_t layer) const;
  // The copies that bring streamed pages [begin, end) of a layer to the ring, for the current step
  // or, `ahead`, the next. The second is empty unless they go over the ring's end.
  std::array<PageRun, 2> Runs(int32_t layer, int64_t begin, int64_t end, bool ahead) const;
  // The next step begins.
  void EndStep() {
    if (options_.num_ring_slots > 0) base_ = (base_ + num_streamed_) % options_.num_ring_slots;
  }

 private:
  struct Layer {
    const char* home = nullptr;
    char* resident = nullptr;
    int64_t first_index = 0;  // of its first streamed page in the stream of a step
  };

  ExpertStore(const ExpertStoreOptions& options, std::unique_ptr<DeviceBuffer> device,
              const char* home);
  int64_t FirstSlot(int32_t layer) const {
    return (base_ + layers_[layer].first_index) % options_.num_ring_slots;
  }

  const ExpertStoreOptions options_;
  const std::unique_ptr<DeviceBuffer> device_;  // ring, then resident pages
  std::vector<Layer> layers_;
  int64_t num_streamed_ = 0;  // pages of one step
  int64_t base_ = 0;          // slot of this step's first streamed page
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MEMORY_EXPERT_STORE_H_
