#include "engine/backend/routing_slots.h"

#include <algorithm>

namespace moelight {

void FillRoutingSlots(const Routing& routing, int64_t num_experts) {
  const int64_t num_tokens = routing.expert_ids.dim(0);
  const int64_t k = routing.expert_ids.dim(1);
  const int32_t* expert_ids = routing.expert_ids.as<int32_t>();
  int32_t* offsets = routing.expert_offsets.as<int32_t>();
  int32_t* slot_tokens = routing.slot_tokens.as<int32_t>();
  int32_t* token_slots = routing.token_slots.as<int32_t>();

  // offsets[e + 1] counts expert e; the sums make offsets[e] the first slot of e.
  std::fill_n(offsets, num_experts + 1, 0);
  for (int64_t i = 0; i < num_tokens * k; ++i) ++offsets[expert_ids[i] + 1];
  for (int64_t e = 0; e < num_experts; ++e) offsets[e + 1] += offsets[e];
  // Handing out slots moves offsets[e] to the end of e, which is the beginning of e + 1; shifting
  // by one restores it.
  for (int64_t i = 0; i < num_tokens * k; ++i) {
    const int32_t slot = offsets[expert_ids[i]]++;
    slot_tokens[slot] = static_cast<int32_t>(i / k);
    token_slots[i] = slot;
  }
  std::copy_backward(offsets, offsets + num_experts, offsets + num_experts + 1);
  offsets[0] = 0;
}

}  // namespace moelight
