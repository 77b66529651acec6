// Dense products, and the smallest op there is.
#include <algorithm>
#include <memory>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/gpu_probe/gpu_parts.h"
#include "engine/memory/arena.h"

namespace moelight {
namespace {

OpLimits MatMulLimits(const GpuProbeSpec& spec, int64_t rows) {
  OpLimits limits = LeastLimits();
  limits.max_tokens = rows;
  limits.hidden_size = spec.matmul_inputs;
  limits.max_matmul_rows = spec.matmul_outputs;
  return limits;
}

// What calls of up to `rows` rows take besides the weights.
int64_t MatMulBytes(const GpuProbe& probe, int64_t rows) {
  const GpuProbeSpec& spec = probe.spec;
  return Arena::AlignUp(rows * spec.matmul_inputs * probe.act_bytes()) +
         Arena::AlignUp(rows * spec.matmul_outputs * probe.act_bytes()) +
         probe.backend.scratch_bytes(MatMulLimits(spec, rows));
}

}  // namespace

absl::Status MeasureMatMuls(GpuProbe& probe, WidestSpread& widest) {
  const GpuProbeSpec& spec = probe.spec;
  Backend& backend = probe.backend;
  const WeightFormat& format = backend.weight_format();
  const int64_t weight_bytes =
      Arena::AlignUp(format.bytes(spec.matmul_outputs, spec.matmul_inputs));
  std::vector<int64_t> rows = spec.matmul_rows;
  CHECK(std::is_sorted(rows.begin(), rows.end()));
  while (!rows.empty() && MatMulBytes(probe, rows.back()) + weight_bytes > probe.memory_bytes) {
    rows.pop_back();
  }
  if (rows.empty()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "a weight of ", spec.matmul_outputs, " x ", spec.matmul_inputs, " does not fit the ",
        probe.memory_bytes, " bytes of GPU memory that the probe may take"));
  }
  const int64_t most = (probe.memory_bytes - MatMulBytes(probe, rows.back())) / weight_bytes;
  const int64_t num_weights = std::min(most, (spec.cold_bytes + weight_bytes - 1) / weight_bytes);

  RETURN_IF_ERROR(backend.Reserve(MatMulLimits(spec, rows.back())));
  ASSIGN_OR_RETURN(const std::unique_ptr<DeviceBuffer> weights,
                   probe.data.Random("dense weights", num_weights * weight_bytes));
  ASSIGN_OR_RETURN(
      const std::unique_ptr<DeviceBuffer> x,
      probe.data.Random("inputs", rows.back() * spec.matmul_inputs * probe.act_bytes()));
  ASSIGN_OR_RETURN(
      const std::unique_ptr<DeviceBuffer> y,
      probe.data.Random("outputs", rows.back() * spec.matmul_outputs * probe.act_bytes()));
  int64_t next_weight = 0;
  for (const int64_t num_rows : rows) {
    const auto issue = [&] {
      MatMulArgs args;
      args.x =
          TensorView::Make(x->data(), backend.activation_dtype(), {num_rows, spec.matmul_inputs});
      args.weight = {weights->data() + next_weight * weight_bytes, &format, spec.matmul_outputs,
                     spec.matmul_inputs};
      args.y =
          TensorView::Make(y->data(), backend.activation_dtype(), {num_rows, spec.matmul_outputs});
      next_weight = (next_weight + 1) % num_weights;
      return backend.MatMul(args, probe.stream);
    };
    ASSIGN_OR_RETURN(const DeviceTimes times, MeasureOnDevice(spec.turns, probe.stream, issue));
    const double seconds = times.device_seconds.median;
    const int64_t flops = 2 * num_rows * spec.matmul_inputs * spec.matmul_outputs;
    probe.profile.matmul_flops_per_s.points.push_back(
        {static_cast<double>(num_rows), static_cast<double>(flops) / seconds});
    probe.SawReads(static_cast<double>(weight_bytes) / seconds);
    widest.Add(absl::StrCat(num_rows, " rows"), times.device_seconds);
  }
  return absl::OkStatus();
}

absl::Status MeasureLaunches(GpuProbe& probe, WidestSpread& widest) {
  const int64_t hidden_size = probe.spec.matmul_inputs;
  OpLimits limits = LeastLimits();
  limits.hidden_size = hidden_size;
  RETURN_IF_ERROR(probe.backend.Reserve(limits));
  ASSIGN_OR_RETURN(const std::unique_ptr<DeviceBuffer> x,
                   probe.data.Random("a row", hidden_size * probe.act_bytes()));
  ASSIGN_OR_RETURN(const std::unique_ptr<DeviceBuffer> y,
                   probe.data.Random("a row", hidden_size * probe.act_bytes()));
  ASSIGN_OR_RETURN(const std::unique_ptr<DeviceBuffer> weight,
                   probe.data.Random("a norm", hidden_size * DTypeBytes(DType::kF32)));
  RmsNormArgs args;
  args.x = TensorView::Make(x->data(), probe.backend.activation_dtype(), {1, hidden_size});
  args.y = TensorView::Make(y->data(), probe.backend.activation_dtype(), {1, hidden_size});
  args.weight = TensorView::Make(weight->data(), DType::kF32, {hidden_size});
  args.epsilon = 1e-5f;
  ASSIGN_OR_RETURN(const DeviceTimes times, MeasureOnDevice(probe.spec.turns, probe.stream, [&] {
                     return probe.backend.RmsNorm(args, probe.stream);
                   }));
  probe.profile.launch_us = times.wall_seconds.median * 1e6;
  widest.Add("norm of a row", times.wall_seconds);
  return absl::OkStatus();
}

}  // namespace moelight
