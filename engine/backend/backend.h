// Backend: a device that runs the ops, with its streams and memory.
//
// There are `reference` (plain fp32 loops, the oracle of every op test), `cpu` (vectorized, bf16
// weights) and `cuda` (one NVIDIA GPU). A backend is one folder and one row in backends.cc.
//
// Device memory is what AllocateDevice() gave. The tensors and weights of an op lie in it; spans
// (token ids, positions, block tables) lie in host memory and stay unchanged until the step ends.
// On a backend of the host both are the same memory.
//
// Threads: all ops of one backend are issued by one thread at a time; a backend may use threads of
// its own inside an op.
// Allocation: in AllocateDevice(), Reserve() and CreateStream() only; ops never allocate.
// Errors: ops return errors of the device only. Wrong shapes are our own bugs and CHECKs.
#ifndef MOELIGHT_ENGINE_BACKEND_BACKEND_H_
#define MOELIGHT_ENGINE_BACKEND_BACKEND_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "engine/backend/ops.h"
#include "engine/backend/weight_format.h"
#include "engine/base/lane.h"

namespace moelight {

// When a task ran, in microseconds of one clock shared by all streams of the backend.
struct TaskTiming {
  double begin_us = 0;
  double end_us = 0;
};

// Stream: issues the tasks of one lane in order. Tasks are named by their index in the StepPlan;
// the edges between lanes are waits for tasks of other streams.
class Stream {
 public:
  virtual ~Stream() = default;
  // Forgets the tasks of the last step, but for those issued ahead, which are now this step's.
  // `num_tasks` bounds the indices that follow.
  virtual void BeginStep(int num_tasks) = 0;
  // From here to EndAhead(), BeginTask() and EndTask() name tasks of the next step, below
  // `num_tasks`. May be called several times in a step, with the same number.
  virtual void BeginAhead(int num_tasks) = 0;
  virtual void EndAhead() = 0;
  // Everything issued between the two belongs to the task.
  virtual void BeginTask(int task) = 0;
  virtual void EndTask(int task) = 0;
  // Nothing issued here later starts before `task` of this step, issued on `other`, has ended.
  virtual absl::Status WaitFor(const Stream& other, int task) = 0;
  // Runs `work` on a thread of the host, after everything issued here before and before everything
  // issued later. `work` must not use the backend of this stream; Synchronize() returns its error.
  virtual absl::Status RunOnHost(std::function<absl::Status()> work) = 0;
  // Blocks until everything issued here has ended.
  virtual absl::Status Synchronize() = 0;
  // Valid once the task has ended, until the BeginStep() after the next.
  virtual TaskTiming timing(int task) const = 0;
};

// Memory that is given back when this is destroyed.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual char* data() const = 0;
  virtual int64_t bytes() const = 0;
};

// Host memory that a device copies at full speed for as long as this lives.
class PinnedRange {
 public:
  virtual ~PinnedRange() = default;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual absl::string_view name() const = 0;
  virtual std::string description() const = 0;  // "cpu (avx512_bf16, 2 threads)"
  virtual DType activation_dtype() const = 0;
  virtual DType kv_dtype() const = 0;
  virtual DType embedding_dtype() const = 0;
  virtual const WeightFormat& weight_format() const = 0;
  // Of the experts' matrices, which are streamed.
  virtual const WeightFormat& expert_format() const { return weight_format(); }

  // Whether device memory is apart from host memory, so that weights and activations are copied.
  virtual bool has_device_memory() const { return false; }
  // Whether nothing reads or writes the memory that ops name, so that none need be behind it.
  virtual bool is_virtual() const { return false; }
  // Bytes that can be allocated now. 0 without device memory of its own.
  virtual int64_t free_device_bytes() const { return 0; }
  // `bytes` of zeroed device memory, aligned to 256. ResourceExhausted naming `name` and the size.
  virtual absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocateDevice(absl::string_view name,
                                                                       int64_t bytes);
  // Pins [data, data + bytes). Nothing to do without device memory of its own. ResourceExhausted if
  // the system does not allow it.
  virtual absl::StatusOr<std::unique_ptr<PinnedRange>> PinHost(void* data, int64_t bytes);

  virtual std::unique_ptr<Stream> CreateStream(Lane lane) = 0;

  // Scratch that Reserve() will allocate for these limits, for the memory budget.
  virtual int64_t scratch_bytes(const OpLimits& limits) const = 0;
  // Pinned host memory that Reserve() will allocate besides, for the budget of the host.
  virtual int64_t pinned_bytes(const OpLimits&) const { return 0; }
  // InvalidArgument naming what this backend cannot do for a model; before anything is loaded.
  virtual absl::Status CheckLimits(const OpLimits&) const { return absl::OkStatus(); }
  virtual absl::Status Reserve(const OpLimits& limits) = 0;

  virtual absl::Status Embed(const EmbedArgs& args, Stream& stream) = 0;
  virtual absl::Status RmsNorm(const RmsNormArgs& args, Stream& stream) = 0;
  virtual absl::Status MatMul(const MatMulArgs& args, Stream& stream) = 0;
  virtual absl::Status QkNormRope(const QkNormRopeArgs& args, Stream& stream) = 0;
  virtual absl::Status Attention(const AttentionArgs& args, Stream& stream) = 0;
  virtual absl::Status Router(const RouterArgs& args, Stream& stream) = 0;
  virtual absl::Status MoeFfn(const MoeFfnArgs& args, Stream& stream) = 0;
  virtual absl::Status DenseFfn(const DenseFfnArgs& args, Stream& stream) = 0;
  virtual absl::Status GatherRows(const GatherRowsArgs& args, Stream& stream) = 0;
  // dst = src; the direction is the stream's lane. Host memory must be pinned, or the copy is slow.
  virtual absl::Status Copy(const TensorView& src, const TensorView& dst, Stream& stream) = 0;
  virtual absl::Status CopyPages(const CopyPagesArgs& args, Stream& stream) = 0;
};

struct BackendOptions {
  int32_t num_threads = 1;  // workers inside an op, the calling thread included
  std::string isa;  // empty: the best this machine has; else a row of the backend's variants
  std::string kv_format = {};  // empty: the backend's own; else a name that ParseKvFormat() knows
  bool pin_threads = false;    // each worker keeps to one CPU; see engine/base/parallel.h
};

// One row per backend, the fastest first.
struct BackendEntry {
  absl::string_view name;
  absl::string_view summary;
  bool in_auto;  // whether "auto" may choose it
  // FailedPrecondition: this machine cannot run it.
  absl::StatusOr<std::unique_ptr<Backend>> (*create)(const BackendOptions& options);
};
absl::Span<const BackendEntry> Backends();

// `name` is a row of Backends(), or "auto": the fastest that this machine can run.
// InvalidArgument with the list of names otherwise, or if an option has no meaning here;
// FailedPrecondition if this machine cannot run it.
absl::StatusOr<std::unique_ptr<Backend>> CreateBackend(absl::string_view name,
                                                       const BackendOptions& options);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_BACKEND_H_
