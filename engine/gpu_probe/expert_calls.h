// ExpertCalls: one layer of experts on a device, in pages as the engine keeps them, and calls of
// MoeFfn to which every expert gets the same number of tokens.
//
// Threads: one. Owns the device memory, taken in Create() and Route(). Errors: ResourceExhausted
// for memory, what the device says otherwise.
#ifndef MOELIGHT_ENGINE_GPU_PROBE_EXPERT_CALLS_H_
#define MOELIGHT_ENGINE_GPU_PROBE_EXPERT_CALLS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/gpu_probe/device_data.h"
#include "engine/gpu_probe/gpu_probe.h"
#include "engine/memory/arena.h"

namespace moelight {

class ExpertCalls {
 public:
  static int64_t ExpertBytes(const ExpertLayerSize& size, const Backend& backend);
  // Tokens of a call that gives `tokens_per_expert` to each, at least.
  static int64_t NumTokens(const ExpertLayerSize& size, int64_t tokens_per_expert);
  // Device memory for calls of up to `max_tokens`, scratch included.
  static int64_t DeviceBytes(const ExpertLayerSize& size, int64_t page_bytes, int64_t max_tokens,
                             const Backend& backend);

  // Calls Reserve(). `backend` and `data` must outlive this.
  static absl::StatusOr<std::unique_ptr<ExpertCalls>> Create(const ExpertLayerSize& size,
                                                             int64_t page_bytes, int64_t max_tokens,
                                                             Backend& backend, DeviceData& data);

  // Deals the next calls' tokens out to the experts in turn. Nothing may be running.
  absl::Status Route(int64_t num_tokens);
  absl::Status Issue(Stream& stream);

 private:
  ExpertCalls(const ExpertLayerSize& size, Backend& backend, DeviceData& data)
      : size_(size), backend_(backend), data_(data) {}
  void PlaceExperts(int64_t page_bytes);

  const ExpertLayerSize size_;
  Backend& backend_;
  DeviceData& data_;
  std::unique_ptr<DeviceBuffer> weights_;
  std::unique_ptr<DeviceBuffer> x_;
  std::unique_ptr<DeviceBuffer> y_;
  std::unique_ptr<Arena> routing_;
  std::vector<FfnWeights> experts_;
  MoeFfnArgs args_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_GPU_PROBE_EXPERT_CALLS_H_
