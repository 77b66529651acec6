// Backend: a device that runs the ops, with its streams and memory.
//
// Two exist from the start: `reference` (plain fp32 loops, the oracle of every op test) and `cpu`
// (vectorized, bf16 weights). A backend is one folder and one row in backends.cc.
//
// Threads: all ops of one backend are issued by the engine thread; a backend may use threads of its
// own inside an op.
// Allocation: in Reserve() only; ops never allocate.
// Errors: ops return errors of the device only. Wrong shapes are our own bugs and CHECKs.
#ifndef MOELIGHT_ENGINE_BACKEND_BACKEND_H_
#define MOELIGHT_ENGINE_BACKEND_BACKEND_H_

#include <cstdint>
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
  // Forgets the tasks of the last step. `num_tasks` bounds the indices that follow.
  virtual void BeginStep(int num_tasks) = 0;
  // Everything issued between the two belongs to the task.
  virtual void BeginTask(int task) = 0;
  virtual void EndTask(int task) = 0;
  // Nothing issued here later starts before `task`, issued on `other`, has ended.
  virtual absl::Status WaitFor(const Stream& other, int task) = 0;
  // Blocks until everything issued here has ended.
  virtual absl::Status Synchronize() = 0;
  // Valid after Synchronize().
  virtual TaskTiming timing(int task) const = 0;
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

  virtual std::unique_ptr<Stream> CreateStream(Lane lane) = 0;

  // Scratch that Reserve() will allocate for these limits, for the memory budget.
  virtual int64_t scratch_bytes(const OpLimits& limits) const = 0;
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
  // dst = src; the direction is the stream's lane.
  virtual absl::Status Copy(const TensorView& src, const TensorView& dst, Stream& stream) = 0;
};

struct BackendOptions {
  int32_t num_threads = 1;  // workers inside an op, the calling thread included
  std::string isa;  // empty: the best this machine has; else a row of the backend's variants
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
