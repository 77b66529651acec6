// The stream of weights that a divided expert memory makes.
#ifndef MOELIGHT_ENGINE_PIPELINE_WEIGHT_STREAM_H_
#define MOELIGHT_ENGINE_PIPELINE_WEIGHT_STREAM_H_

#include "engine/memory/expert_store.h"
#include "engine/pipeline/step_plan.h"

namespace moelight {

// Empty if everything is resident.
WeightStream StreamOf(const ExpertStoreOptions& experts);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PIPELINE_WEIGHT_STREAM_H_
