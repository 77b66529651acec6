#include "engine/host_probe.h"

#include <algorithm>
#include <memory>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "engine/backend/cpu/isa.h"
#include "engine/base/parallel.h"
#include "engine/base/spread.h"
#include "engine/base/status_macros.h"
#include "engine/cpu_options.h"
#include "engine/cpu_probe/attention_probe.h"
#include "engine/cpu_probe/copy_load.h"
#include "engine/cpu_probe/expert_probe.h"
#include "engine/cpu_probe/probe_memory.h"
#include "engine/cpu_probe/roofs.h"
#include "engine/cpu_probe/turns.h"
#include "engine/machine_identity.h"
#include "engine/memory/memory_budget.h"
#include "engine/sampling/sampler.h"

namespace moelight {
namespace {

constexpr int kTurns = 7;
constexpr int32_t kPageTokens = 16;

// What the parts share. Each runner lives in one part only, because it may bind the caller and the
// next one must be made by a thread that is free.
struct HostProbe {
  const HostProbeSpec& spec;
  CpuProbeOptions cpu;
  const CpuIsa* isa;
  const std::function<void(absl::string_view)>& on_progress;
  HostProfile profile;

  void Report(const std::string& result, const WidestSpread& widest) {
    profile.spread = std::max(profile.spread, widest.relative());
    if (on_progress) on_progress(absl::StrCat("host: ", result, "; ", widest.ToText()));
  }
};

template <typename Turn>
Spread TakeTurns(const Turn& turn) {
  std::vector<double> values;
  for (int i = 0; i < kTurns; ++i) values.push_back(turn());
  return SpreadOf(std::move(values));
}

// 1, 2, 4 and so on, and all.
std::vector<int> ThreadCounts(int num_threads) {
  std::vector<int> counts;
  for (int count = 1; count < num_threads; count *= 2) counts.push_back(count);
  counts.push_back(num_threads);
  return counts;
}

absl::Status MeasureRoofs(HostProbe& probe, const ProbeMemory& memory) {
  HostProfile& profile = probe.profile;
  WidestSpread widest;
  for (const int num_threads : ThreadCounts(probe.cpu.threads.num_threads)) {
    ParallelRunner runner({num_threads, probe.cpu.threads.pin});
    CpuRoofs roofs(*probe.isa, memory, probe.cpu.turn_seconds / 2, runner);
    const Spread read = TakeTurns([&roofs] { return roofs.ReadBytesPerSecond(); });
    widest.Add(absl::StrCat("reads by ", num_threads, " threads"), read);
    profile.read_bytes_per_s_by_threads.points.push_back(
        {static_cast<double>(num_threads), read.median});
    if (num_threads < probe.cpu.threads.num_threads) continue;
    profile.read_bytes_per_s = read.median;
    const Spread peak = TakeTurns([&roofs] { return roofs.PeakFlopsPerSecond(); });
    widest.Add("multiply-adds", peak);
    profile.peak_flops_per_s = peak.median;
  }
  probe.Report(absl::StrFormat("%d threads read %.1f GB/s, at most %.2f TFLOP/s",
                               probe.cpu.threads.num_threads, profile.read_bytes_per_s * 1e-9,
                               profile.peak_flops_per_s * 1e-12),
               widest);
  return absl::OkStatus();
}

absl::Status MeasureSampling(HostProbe& probe, const ProbeMemory& memory) {
  const int64_t vocab_size = probe.spec.vocab_size;
  const int64_t row_bytes = vocab_size * static_cast<int64_t>(sizeof(float));
  const int64_t num_rows = memory.bytes() / row_bytes;
  CHECK_GT(num_rows, 0) << "not one row of logits fits " << memory.bytes() << " bytes";
  SamplingParams params;
  params.temperature = 0;
  SequenceSampler sampler(params, SamplingDefaults(), /*seed=*/0, /*choice_index=*/0,
                          probe.spec.vocab_size, /*prompt=*/{});
  SamplerScratch scratch;
  absl::Status status;
  int64_t row = 0;
  const Spread seconds = TakeTurns([&] {
    return SecondsPerCall(probe.cpu.turn_seconds, [&] {
      float* const logits = reinterpret_cast<float*>(memory.data() + row * row_bytes);
      status.Update(sampler.Sample({logits, static_cast<size_t>(vocab_size)}, scratch).status());
      row = (row + 1) % num_rows;
    });
  });
  RETURN_IF_ERROR(status);
  probe.profile.sample_bytes_per_s = static_cast<double>(row_bytes) / seconds.median;
  WidestSpread widest;
  widest.Add("greedy choice", seconds);
  probe.Report(
      absl::StrFormat("samples %.1f GB/s of logits", probe.profile.sample_bytes_per_s * 1e-9),
      widest);
  return absl::OkStatus();
}

// As many sequences as memory holds, up to spec.batch.
AttentionProbeSpec MakeAttentionSpec(const HostProbe& probe, const std::string& kv_format,
                                     int32_t num_key_value_heads,
                                     const std::vector<int32_t>& contexts) {
  AttentionProbeSpec spec;
  spec.num_attention_heads = probe.spec.num_attention_heads;
  spec.num_key_value_heads = num_key_value_heads;
  spec.head_dim = probe.spec.head_dim;
  spec.page_tokens = kPageTokens;
  spec.kv_format = kv_format;
  for (const int32_t context : contexts) {
    const int32_t whole_pages = (context + kPageTokens - 1) / kPageTokens * kPageTokens;
    AttentionProbeSpec::Shape shape = {whole_pages, probe.spec.batch};
    while (shape.batch > 1 && AttentionProbeBytes(spec, shape) > probe.cpu.memory_bytes) {
      shape.batch /= 2;
    }
    spec.shapes.push_back({context, shape.batch});
  }
  return spec;
}

absl::Status MeasureAttentionRates(HostProbe& probe) {
  WidestSpread widest;
  for (const std::string& kv_format : probe.spec.kv_formats) {
    for (const int32_t num_key_value_heads : probe.spec.num_key_value_heads) {
      const AttentionProbeSpec spec =
          MakeAttentionSpec(probe, kv_format, num_key_value_heads, probe.spec.contexts);
      ASSIGN_OR_RETURN(const AttentionRates rates,
                       MeasureAttention(spec, probe.cpu, /*copies=*/nullptr, /*on_row=*/nullptr));
      HostAttentionRate attention;
      attention.kv_format = kv_format;
      attention.group_size = spec.num_attention_heads / num_key_value_heads;
      for (const AttentionRate& row : rates.rows) {
        attention.bytes_per_s.points.push_back(
            {static_cast<double>(row.shape.context),
             static_cast<double>(row.rate.bytes) / row.rate.seconds.median});
        widest.Add(absl::StrCat(kv_format, ", ", attention.group_size, " heads a key, context ",
                                row.shape.context),
                   row.rate.seconds);
      }
      probe.profile.attention.push_back(std::move(attention));
    }
  }
  double peak = 0;
  for (const HostAttentionRate& rate : probe.profile.attention) {
    peak = std::max(peak, rate.bytes_per_s.Peak());
  }
  probe.Report(absl::StrFormat("attends at up to %.1f GB/s", peak * 1e-9), widest);
  return absl::OkStatus();
}

absl::Status MeasureExpertRates(HostProbe& probe) {
  WidestSpread widest;
  double peak = 0;
  for (const HostProbeSpec::ExpertSize& size : probe.spec.experts) {
    const ExpertProbeSpec spec = {probe.spec.expert_tokens, size.hidden_size,
                                  size.intermediate_size};
    if (ExpertProbeBytes(spec) > probe.cpu.memory_bytes) continue;
    ASSIGN_OR_RETURN(const ExpertRates rates,
                     MeasureExperts(spec, probe.cpu, /*copies=*/nullptr, /*on_row=*/nullptr));
    ExpertRateCurve curve = {size.hidden_size, size.intermediate_size, {}};
    for (const ExpertRate& row : rates.rows) {
      curve.flops_per_s.points.push_back(
          {static_cast<double>(row.tokens),
           static_cast<double>(row.rate.flops) / row.rate.seconds.median});
      widest.Add(absl::StrCat(row.tokens, " tokens, expert of ", size.hidden_size, " x ",
                              size.intermediate_size),
                 row.rate.seconds);
    }
    peak = std::max(peak, curve.flops_per_s.Peak());
    probe.profile.experts.push_back(std::move(curve));
  }
  if (probe.profile.experts.empty()) {
    return absl::ResourceExhaustedError(absl::StrCat("no expert fits the ", probe.cpu.memory_bytes,
                                                     " bytes of memory that the probe may take"));
  }
  probe.Report(absl::StrFormat("experts at up to %.2f TFLOP/s", peak * 1e-12), widest);
  return absl::OkStatus();
}

// Attention and copies at the same time; without a GPU nothing else wants memory.
absl::Status MeasureSharedMemory(HostProbe& probe, Backend* gpu) {
  if (gpu == nullptr) {
    probe.profile.shared_bytes_per_s = probe.profile.read_bytes_per_s;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<CopyLoad> copies, CopyLoad::Create(*gpu));
  const HostProbeSpec& sizes = probe.spec;
  const AttentionProbeSpec spec = MakeAttentionSpec(
      probe, sizes.kv_formats.front(),
      sizes.num_key_value_heads[sizes.num_key_value_heads.size() / 2], {sizes.contexts.back()});
  ASSIGN_OR_RETURN(const AttentionRates rates,
                   MeasureAttention(spec, probe.cpu, copies.get(), /*on_row=*/nullptr));
  const KernelRate& rate = rates.rows.front().rate;
  const BesideCopyRate& beside = *rate.beside_copy;
  const double attention = static_cast<double>(rate.bytes) / beside.seconds.median;
  probe.profile.shared_bytes_per_s = attention + beside.copy_beside_bytes_per_s.median;
  WidestSpread widest;
  widest.Add("attention beside copies", beside.seconds);
  widest.Add("copies beside attention", beside.copy_beside_bytes_per_s);
  probe.Report(absl::StrFormat("attends at %.1f GB/s beside copies of %.1f GB/s", attention * 1e-9,
                               beside.copy_beside_bytes_per_s.median * 1e-9),
               widest);
  return absl::OkStatus();
}

// Memory read in order, and logits in it. As large as the parts that follow make theirs at least.
absl::Status MeasureMemory(HostProbe& probe) {
  const int64_t row_bytes = probe.spec.vocab_size * static_cast<int64_t>(sizeof(float));
  const int64_t bytes = row_bytes * NumColdPieces(row_bytes, probe.cpu.memory_bytes);
  std::unique_ptr<ProbeMemory> memory;
  {
    ParallelRunner runner(probe.cpu.threads);
    ASSIGN_OR_RETURN(memory, ProbeMemory::Create(bytes, runner));
  }
  RETURN_IF_ERROR(MeasureRoofs(probe, *memory));
  return MeasureSampling(probe, *memory);
}

}  // namespace

absl::StatusOr<HostProfile> MeasureHost(const EngineOptions& options, const HostProbeSpec& spec,
                                        Backend* gpu,
                                        const std::function<void(absl::string_view)>& on_progress) {
  ASSIGN_OR_RETURN(const BackendOptions backend_options,
                   CpuBackendOptions(options, /*why_not_pinned=*/nullptr));
  ASSIGN_OR_RETURN(const CpuIsa* const isa, ChooseCpuIsa(backend_options.isa));
  ASSIGN_OR_RETURN(const int64_t available_bytes, AvailableHostMemoryBytes());
  HostProbe probe = {spec, {}, isa, on_progress, {}};
  probe.cpu.threads = {backend_options.num_threads, backend_options.pin_threads};
  probe.cpu.isa = std::string(isa->name);
  probe.cpu.memory_bytes = std::min(spec.memory_bytes, available_bytes / 2);
  probe.cpu.turn_seconds = spec.turn_seconds;
  probe.profile.name =
      absl::StrCat(backend_options.num_threads,
                   backend_options.num_threads == 1 ? " thread of " : " threads of ",
                   CpuModelName().empty() ? "an unknown processor" : CpuModelName());
  probe.profile.num_threads = backend_options.num_threads;
  probe.profile.memory_bytes = available_bytes;
  probe.profile.pinnable_bytes = PinnableBytes();
  RETURN_IF_ERROR(MeasureMemory(probe));
  RETURN_IF_ERROR(MeasureAttentionRates(probe));
  RETURN_IF_ERROR(MeasureExpertRates(probe));
  RETURN_IF_ERROR(MeasureSharedMemory(probe, gpu));
  return std::move(probe.profile);
}

}  // namespace moelight
