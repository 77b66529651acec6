// Random questions for the planner: a model, a machine and a workload, the same ones for the same
// seed.
#ifndef MOELIGHT_TESTS_ENGINE_RANDOM_PROBLEMS_H_
#define MOELIGHT_TESTS_ENGINE_RANDOM_PROBLEMS_H_

#include <random>

#include <absl/types/span.h>

#include "engine/base/hardware_profile.h"
#include "engine/engine.h"
#include "engine/model/model_config.h"

namespace moelight {

// Arithmetic on one thread has little to show to a sanitizer, which makes it ten times as long.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr int kRoundsDivisor = 20;
#else
inline constexpr int kRoundsDivisor = 1;
#endif

struct PlanningProblem {
  ModelConfig config;
  EngineOptions options;  // with the machine's profile and both memory limits
};

// Evenly along the logarithm.
double RandomBetween(double low, double high, std::mt19937& random);
// One of tests/data/configs, cut to between two and `max_layers` of its layers.
ModelConfig RandomPublishedModel(int32_t max_layers, std::mt19937& random);
// Two to six layers of odd sizes, 2 to 64 experts, now and then a dense layer among them.
ModelConfig RandomSmallModel(std::mt19937& random);
// One of the test profiles, each of its resources up to four times faster or slower.
HardwareProfile RandomMachine(std::mt19937& random);
// What to do with `config` on such a machine, whose memory may be too small.
PlanningProblem RandomProblem(const ModelConfig& config, std::mt19937& random);

// Something that a machine may have more of.
struct Resource {
  const char* name;
  bool of_gpu;
  void (*scale)(HardwareProfile& profile, EngineOptions& options, double factor);
};
absl::Span<const Resource> Resources();

}  // namespace moelight

#endif  // MOELIGHT_TESTS_ENGINE_RANDOM_PROBLEMS_H_
