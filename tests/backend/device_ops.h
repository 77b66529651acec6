// Ops on views of host memory, for any backend: a backend with memory of its own gets copies of all
// that an op touches, each in an allocation of its own, and what it wrote is copied back. On a
// backend of the host the views are used as they are.
#ifndef MOELIGHT_TESTS_BACKEND_DEVICE_OPS_H_
#define MOELIGHT_TESTS_BACKEND_DEVICE_OPS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/backend/backend.h"

namespace moelight {

// The copies of one call. The same host memory asked for twice is one copy, so that views which
// alias do so on the device, too.
class DeviceCopies {
 public:
  DeviceCopies(Backend& backend, Stream& stream) : backend_(backend), stream_(stream) {}

  TensorView operator()(const TensorView& view);
  WeightMatrix operator()(const WeightMatrix& matrix);
  FfnWeights operator()(const FfnWeights& ffn) { return {(*this)(ffn.gate_up), (*this)(ffn.down)}; }
  Routing operator()(const Routing& routing);
  // Memory that may be written.
  void* Writable(void* data, int64_t bytes) { return Copy(data, bytes, true); }
  const char* ReadOnly(const void* data, int64_t bytes) {
    return static_cast<const char*>(Copy(const_cast<void*>(data), bytes, false));
  }

  // Waits for the op that gave `status`, copies back what may have been written, and gives the
  // status on, or the first error met here.
  absl::Status Finish(absl::Status status);

 private:
  struct Pair {
    char* host = nullptr;
    int64_t bytes = 0;
    bool is_writable = false;
    std::unique_ptr<DeviceBuffer> device;
  };

  void* Copy(void* data, int64_t bytes, bool is_writable);

  Backend& backend_;
  Stream& stream_;
  std::vector<Pair> pairs_;
};

// A backend and a stream of it, with the ops on host views. Every call has ended when it returns.
class DeviceOps {
 public:
  DeviceOps(Backend& backend, Stream& stream) : backend_(backend), stream_(stream) {}

  absl::Status Embed(EmbedArgs args);
  absl::Status RmsNorm(RmsNormArgs args);
  absl::Status MatMul(MatMulArgs args);
  absl::Status QkNormRope(QkNormRopeArgs args);
  absl::Status Attention(AttentionArgs args);
  absl::Status Router(RouterArgs args);
  absl::Status MoeFfn(MoeFfnArgs args);
  absl::Status DenseFfn(DenseFfnArgs args);
  absl::Status GatherRows(GatherRowsArgs args);
  absl::Status Copy(TensorView src, TensorView dst);

 private:
  Backend& backend_;
  Stream& stream_;
};

}  // namespace moelight

#endif  // MOELIGHT_TESTS_BACKEND_DEVICE_OPS_H_
