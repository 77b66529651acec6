// Rotary position embedding: its settings in config.json and the angles they stand for.
//
// Threads: pure functions. Adding a type is one row of the table in rope.cc.
#ifndef MOELIGHT_ENGINE_MODEL_ROPE_H_
#define MOELIGHT_ENGINE_MODEL_ROPE_H_

#include <cstdint>
#include <string>
#include <vector>

#include <absl/status/statusor.h>

#include "engine/model/config_reader.h"

namespace moelight {

// Names as in config.json; fields past `rope_type` apply to the types named beside them.
struct RopeConfig {
  double rope_theta = 10000;
  std::string rope_type = "default";  // default, linear, llama3 or yarn
  double factor = 1;                  // linear, llama3, yarn: how much longer the context gets
  double original_max_position_embeddings = 0;  // llama3, yarn: context of the first training
  double low_freq_factor = 1;                   // llama3
  double high_freq_factor = 4;                  // llama3
  double beta_fast = 32;                        // yarn: turns above which an angle is kept
  double beta_slow = 1;                         // yarn: turns below which it is interpolated
  double attention_factor = 1;                  // yarn: length scale of rotated q and of rotated k
};

// Reads `rope_theta` and `rope_scaling`, or the newer `rope_parameters` that holds both, from the
// top object of config.json. Errors: InvalidArgument naming the field; Unimplemented naming a
// `rope_type` that is not in the table and those that are.
absl::StatusOr<RopeConfig> ParseRopeConfig(const ConfigReader& config);

// Longest context of a model whose config.json says `max_position_embeddings`. vLLM's rule: linear
// and yarn scaling are written beside the unscaled length, llama3 beside the scaled one.
int64_t RopeMaxPositions(const RopeConfig& rope, int64_t max_position_embeddings);

// [head_dim / 2]: pair i of a head turns by position * inv_freq[i].
std::vector<float> RopeInvFreq(const RopeConfig& rope, int32_t head_dim);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MODEL_ROPE_H_
