#include "engine/pipeline/weight_stream.h"

#include <algorithm>

namespace moelight {
namespace {

// A layer's pages go in this many tasks: enough for every micro-batch of usual plans to have its
// own share between two hidden states, few enough that events cost nothing beside 10 ms of copying.
constexpr int32_t kWeightPartsPerLayer = 8;

}  // namespace

WeightStream StreamOf(const ExpertStoreOptions& experts) {
  WeightStream stream;
  if (experts.num_ring_slots == 0) return stream;
  const int32_t num_layers = static_cast<int32_t>(experts.layer_pages.size());
  int64_t most_pages = 1;
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    stream.layer_pages.push_back(experts.streamed_pages(layer));
    most_pages = std::max(most_pages, stream.layer_pages.back());
  }
  stream.num_ring_slots = experts.num_ring_slots;
  stream.num_parts = static_cast<int32_t>(std::min<int64_t>(kWeightPartsPerLayer, most_pages));
  return stream;
}

}  // namespace moelight
