// Grouping of the routed tokens by expert.
#ifndef MOELIGHT_ENGINE_BACKEND_ROUTING_SLOTS_H_
#define MOELIGHT_ENGINE_BACKEND_ROUTING_SLOTS_H_

#include "engine/backend/ops.h"

namespace moelight {

// Fills expert_offsets, slot_tokens and token_slots from expert_ids, by counting. Never allocates.
void FillRoutingSlots(const Routing& routing, int64_t num_experts);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_ROUTING_SLOTS_H_
