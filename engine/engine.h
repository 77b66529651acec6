// Engine: the model, its memory and the one thread that runs it, behind a queue of requests.
//
// The server sees this header, request.h, kernel_rates.h and engine/base, and nothing else of the
// engine.
#ifndef MOELIGHT_ENGINE_ENGINE_H_
#define MOELIGHT_ENGINE_ENGINE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "engine/base/hardware_profile.h"
#include "engine/base/lane.h"
#include "engine/base/logger.h"
#include "engine/base/roofline_chart.h"
#include "engine/kernel_rates.h"
#include "engine/request.h"

namespace moelight {

// What requests will be like: the planner sizes batches and buffers for it. Others run as well.
struct WorkloadHint {
  int32_t mean_prompt_tokens = 256;
  int32_t max_prompt_tokens = 1024;
  int32_t num_output_tokens = 128;
};

// Values of the configuration's `engine` section; the defaults are the documented ones. Where 0 or
// "auto" leaves a choice to the policy, the planner chooses for `hardware` and `workload`; without
// a profile, or with policy "manual", fixed values are taken.
struct EngineOptions {
  std::string model;                 // folder in the Hugging Face layout
  std::string device = "auto";       // auto | a row of engine/backend/backends.cc
  std::string load_format = "auto";  // auto | safetensors | dummy
  std::string schedule = "auto";     // auto | a row of engine/pipeline/step_plan.cc
  int64_t host_memory_bytes = 0;     // cap on host arenas; 0: half of what is free at start
  // Cap on everything taken on the GPU but its bare context; 0: 90 % of what is free at start.
  int64_t gpu_memory_bytes = 0;
  std::string policy = "auto";           // auto | manual
  std::string objective = "throughput";  // throughput | energy: what the policy is best in
  WorkloadHint workload;
  std::shared_ptr<const HardwareProfile> hardware;  // null: not known
  int64_t weight_page_bytes = 0;  // of streamed expert weights; a power of two. 0: policy
  // GPU memory for streamed weights, of the streamed pages of one layer, 100 to 200; 0: policy.
  // More than 200 has no use.
  int32_t weight_ring_percent = 0;
  int32_t num_micro_batches = 0;  // parts that a step is cut into, at least; 0: policy
  int32_t num_hidden_layers = 0;  // the model is cut to its first layers; 0: whole. Benchmarks only
  int32_t cpu_threads = 0;        // 0: all cores but one, at least one
  std::string cpu_isa = "auto";   // auto | a row of engine/backend/cpu/isa.cc
  // Whether compute threads keep to one core each: auto | on | off, see CpuBackendOptions().
  std::string cpu_pinning = "auto";
  int32_t max_running_sequences = 0;  // 0: policy
  int32_t max_step_tokens = 0;        // prompt and decode tokens in one step; 0: policy
  int32_t max_model_len = 0;          // 0: the model's max_position_embeddings
  std::string kv_format = "auto";     // of the KV cache: bf16, f16 or int8; auto: the backend's own
  int32_t kv_page_tokens = 16;        // token positions per KV page
  // mixed: prompts are cut into chunks that ride along with decode tokens. separate: steps carry
  // either prompts, whole, or decode tokens.
  std::string prefill = "mixed";
  // paged: a sequence takes KV pages as it grows, as many run as mean lengths allow, and the
  // youngest are put back when pages run out. reserved: pages for the longest length, at once.
  std::string admission = "paged";
  // auto | on | off: whether the experts of a layer run once over several micro-batches together.
  std::string expert_coalescing = "auto";
  bool prefix_sharing = true;  // of equal prompt beginnings within a job
  // Ends answers by chance after so many tokens on average, where end of sequence is not ignored:
  // random weights never would. Benchmarks with load_format dummy only; 0: off.
  int32_t dummy_mean_output_tokens = 0;
  // Submitted and not yet running; those below kInteractivePriority enter while it is half empty.
  int32_t max_queued_requests = 1024;
  int32_t tokenizer_threads = 1;
};

struct ModelInfo {
  std::string name;          // last part of the folder's path
  std::string architecture;  // config.json's architectures[0]
  int64_t num_parameters = 0;
  int64_t num_active_parameters = 0;  // used for one token
  int32_t vocab_size = 0;
  int32_t max_model_len = 0;  // prompt and output together
  bool has_chat_template = false;
};

// What is in a model folder, each part by itself. Weights are known from the headers of their
// files.
struct ModelFiles {
  absl::Status config;  // OK: `model` is valid
  ModelInfo model;
  absl::Status weights;  // DataLoss or InvalidArgument where a file does not fit its header
  int64_t num_tensors = 0;
  int64_t weight_bytes = 0;
  absl::Status tokenizer;      // NotFound: there is none
  absl::Status chat_template;  // NotFound: there is none
};

struct DeviceInfo {
  std::string description;      // "cuda (NVIDIA H200, sm_90, 139 GiB)"
  bool has_own_memory = false;  // whether it is a GPU
  int64_t free_bytes = 0;       // of its own memory
};

struct MemoryUse {
  std::string tier;  // "host" or "gpu"
  std::string tag;   // "weights", "kv_cache", "activations"
  int64_t bytes = 0;
};

// What the planner expects of a plan; microseconds are those of one step.
struct PlanPrediction {
  std::string hardware;  // name of the profile
  WorkloadHint workload;
  int32_t num_sequences = 0;                   // running at once
  double step_us = 0;                          // a step of decode tokens only
  std::array<double, kNumLanes> lane_us = {};  // of that step
  double host_us = 0;                          // of that step, between the lanes' work: sampling
  std::string bottleneck;                      // "h2d", "cpu", "gpu", "d2h" or "host memory"
  double bound_us = 0;                         // that the bottleneck alone would take
  double tokens_per_s = 0;                     // generated, prompts in between included
  double bound_tokens_per_s = 0;               // if nothing ever waited
  double joules_per_token = 0;                 // 0: the profile does not tell
  // What else would bring: twice of one resource, another KV format, experts on the CPU.
  struct Alternative {
    std::string what;
    double tokens_per_s = 0;
    bool is_available = false;  // with other settings on this machine
  };
  std::vector<Alternative> alternatives;
  struct TensorGroup {
    std::string name;   // "experts, resident"
    std::string place;  // "gpu", "host", "host, streamed"
    int64_t bytes = 0;
  };
  std::vector<TensorGroup> tensors;
  RooflineChart roofline;
};

// What was decided at start.
struct PlanInfo {
  std::string
      backend;  // name and instruction set or device, for example "cpu (avx512_bf16, 2 threads)"
  std::string schedule;
  int32_t max_running_sequences = 0;
  int32_t max_step_tokens = 0;
  int32_t num_micro_batches = 0;
  // Whether a layer's experts run over two groups of micro-batches rather than over each.
  bool coalesced_experts = false;
  std::string kv_format;
  int32_t kv_page_tokens = 0;
  int64_t num_kv_pages = 0;
  int64_t weight_page_bytes = 0;
  int64_t num_weight_pages = 0;           // of all experts
  int64_t num_resident_weight_pages = 0;  // kept in GPU memory for good
  int64_t num_ring_slots = 0;             // pages of GPU memory for streamed weights
  bool host_memory_pinned = false;        // whether copies run at the speed of the link
  double probed_h2d_bytes_per_s = 0;      // of copies of one weight page; 0: not measured
  std::vector<MemoryUse> memory;
  std::optional<PlanPrediction> prediction = {};  // if the hardware's profile is known
};

// Levels at one moment.
struct EngineStats {
  int64_t num_queued = 0;   // submitted, waiting for tokenization or a place in the batch
  int64_t num_running = 0;  // sequences in the batch
  int64_t num_kv_pages_used = 0;
  int64_t num_kv_pages = 0;
  // [num_experts] share of the routed tokens since the start, in the last layer; empty: none yet.
  std::vector<double> expert_shares = {};
};

// One step, as measured.
struct StepStats {
  int32_t num_sequences = 0;         // in the batch
  int32_t num_generated_tokens = 0;  // of sequences whose prompt is complete, one each
  int32_t num_decode_tokens = 0;
  int32_t num_prefill_tokens = 0;
  double step_us = 0;
  // From the choice of the batch to the last token sampled, and what was predicted for it; 0: no
  // profile of the hardware.
  double wall_us = 0;
  double predicted_wall_us = 0;
  std::array<double, kNumLanes> predicted_lane_us = {};  // by Lane
  std::array<double, kNumLanes> lane_busy_us = {};       // by Lane
  // [lane][cause]: time a lane stood idle between its tasks because the task it needed was still
  // running on lane `cause`; on the diagonal, because nothing had been launched yet.
  std::array<std::array<double, kNumLanes>, kNumLanes> lane_stall_us = {};
  int64_t h2d_bytes = 0;
  int64_t d2h_bytes = 0;
  // Since the step before:
  int64_t num_preempted_sequences = 0;   // put back because KV pages ran out
  int64_t num_recomputed_tokens = 0;     // computed again for such sequences
  int64_t num_shared_prompt_tokens = 0;  // of admitted prompts, that were in the cache already
  double transfer_overlapped_us = 0;     // transfer time during which a compute lane was busy
  double compute_overlapped_us = 0;      // compute time during which a transfer was running
};

// One request that ended, for histograms.
struct RequestStats {
  int32_t num_prompt_tokens = 0;
  int32_t num_generated_tokens = 0;
  double queue_seconds = 0;  // from Submit to the first step
  double e2e_seconds = 0;    // from Submit to OnFinish
};

// Receives measurements. Called on the engine's threads, concurrently; must not block.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnStep(const StepStats& stats) = 0;
  virtual void OnRequestFinished(const GenerateResult& result, const RequestStats& stats) = 0;
  // The device failed and nothing can run any more: every open request is about to end with this
  // status. Called once. Who keeps requests elsewhere ends the process here instead.
  virtual void OnDeviceFailure(const absl::Status& /*status*/) {}
};

// Receives one request's output. Called on one of the engine's threads, one call at a time; must
// not block.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  // Only if GenerateRequest::stream.
  virtual void OnDelta(TokenDelta delta) = 0;
  // Exactly once, last. The sink may be destroyed from within.
  virtual void OnFinish(GenerateResult result) = 0;
};

struct TokenizeResult {
  std::vector<TokenId> token_ids;
  std::vector<std::string> tokens;  // each id as text
  std::string text;                 // after the chat template; empty for token ids
};

// Rates of the link between host and device, pinned memory, by the size of one copy.
struct LinkRates {
  struct Row {
    int64_t copy_bytes = 0;
    double h2d_bytes_per_s = 0;
    double d2h_bytes_per_s = 0;
    double both_bytes_per_s = 0;  // both directions at once, in sum
  };
  std::vector<Row> rows;  // by copy_bytes, ascending
};

// A request of a simulated run. Prompts that are to be shared begin with the same `prefix`.
struct SimulatedRequest {
  int32_t num_prompt_tokens = 0;
  int32_t num_output_tokens = 0;  // it ends after so many
  int32_t max_output_tokens = 0;  // as the scheduler knows it; 0: it knows the number
  RequestGroup group = {};
  int32_t num_shared_prompt_tokens = 0;  // first ones, the same in all requests of the job
  int64_t arrives_at_step = 0;
};

// A step in virtual time, and what the planner says of one like it among its own kind.
struct SimulatedStep {
  int32_t num_sequences = 0;
  int32_t num_generated_tokens = 0;
  int32_t num_prompt_tokens = 0;
  int64_t num_kv_pages_used = 0;
  double us = 0;  // from the choice of the batch to the last token sampled
  double predicted_us = 0;
  std::array<double, kNumLanes> lane_us = {};  // by Lane
  std::array<double, kNumLanes> predicted_lane_us = {};
};

// A run in virtual time.
struct SimulatedRun {
  double seconds = 0;
  int64_t num_steps = 0;
  int64_t num_generated_tokens = 0;
  int64_t num_prompt_tokens = 0;
  int32_t peak_sequences = 0;
  double decode_step_us =
      0;  // mean of the steps with a full batch and no prompt; 0: there was none
  double decode_predicted_us = 0;                   // what the planner says of the same steps
  std::array<double, kNumLanes> lane_busy_us = {};  // by Lane, of all steps
  int64_t num_kv_pages = 0;
  int64_t num_preempted_sequences = 0;
  int64_t num_recomputed_tokens = 0;
  int64_t num_shared_prompt_tokens = 0;
  std::vector<SimulatedStep> steps;
  std::vector<int64_t> end_steps;  // of each request: the step that gave it its last token
  double tokens_per_s() const {
    return seconds > 0 ? static_cast<double>(num_generated_tokens) / seconds : 0;
  }
};

class Engine {
 public:
  // A value of EngineOptions::device beside those of the backends: the machine of
  // EngineOptions::hardware, which computes nothing. For Plan() and Simulate().
  static constexpr char kSimulatedDevice[] = "simulated";

  // Loads the model and starts the threads; blocks until the first request could run. `logger` and
  // `observer` (may be null) must outlive the engine.
  // Errors: NotFound or InvalidArgument naming file, field or tensor; ResourceExhausted naming the
  // memory that is too small and the key to change.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options,
                                                        Logger& logger, EngineObserver* observer);

  // What Create() would build, from config.json alone: nothing is loaded or allocated.
  static absl::StatusOr<PlanInfo> Plan(const EngineOptions& options);

  // Whether the device of `options` has memory of its own: whether there is a GPU to plan for.
  static absl::StatusOr<bool> HasDeviceMemory(const EngineOptions& options);

  // The model that Create() would load, from config.json and the chat template alone.
  static absl::StatusOr<ModelInfo> Describe(const EngineOptions& options);

  // What is wrong with the files of the model folder, if anything. Reads no weights.
  static ModelFiles InspectModel(const EngineOptions& options);

  // The device that `options` names. InvalidArgument if this build does not have it,
  // FailedPrecondition if this machine cannot run it.
  static absl::StatusOr<DeviceInfo> DescribeDevice(const EngineOptions& options);

  // Runs requests through the scheduler and the pipeline on the simulated machine of
  // `options.hardware`, in virtual time. InvalidArgument without a profile; else as Plan().
  static absl::StatusOr<SimulatedRun> Simulate(const EngineOptions& options,
                                               absl::Span<const SimulatedRequest> requests);
  // Of one client, whose answers all have `num_output_tokens`.
  static absl::StatusOr<SimulatedRun> Simulate(const EngineOptions& options,
                                               absl::Span<const int32_t> prompt_lengths,
                                               int32_t num_output_tokens);

  // Measures the link of the device, which should be idle; takes a few seconds and, for their time,
  // up to 2 GiB of memory on both sides. FailedPrecondition if the device has no link.
  static absl::StatusOr<LinkRates> ProbeLink(const EngineOptions& options);

  // Measures the kernels of the cpu backend on `options.cpu_threads` threads, which should be idle
  // otherwise; needs no model. `on_row` (may be empty) gets each row as soon as it is there.
  // InvalidArgument for sizes or an isa that cannot be; ResourceExhausted for memory;
  // FailedPrecondition for `beside_copy` without a GPU.
  static absl::StatusOr<AttentionRates> ProbeAttention(
      const EngineOptions& options, const AttentionProbeSpec& spec, const KernelProbeOptions& probe,
      const std::function<void(const AttentionRate&)>& on_row);
  static absl::StatusOr<ExpertRates> ProbeExperts(
      const EngineOptions& options, const ExpertProbeSpec& spec, const KernelProbeOptions& probe,
      const std::function<void(const ExpertRate&)>& on_row);

  // Measures what this machine can do: link, memory, kernels of the CPU and, if there is one, of
  // the GPU. The machine should be idle; takes under a minute. `on_progress` (may be empty) is told
  // what each part has found and how far its turns lie apart. The calling thread must not have run
  // loops of compute threads before, which might have bound it to a CPU.
  static absl::StatusOr<HardwareProfile> ProbeHardware(
      const EngineOptions& options, const std::function<void(absl::string_view)>& on_progress);
  // Changes when a profile of this machine is of no use any more: other processor, memory, GPU,
  // driver, number of compute threads.
  static absl::StatusOr<std::string> HardwareFingerprint(const EngineOptions& options);

  // Cancels everything (each open sink gets OnFinish with CANCELLED) and joins the threads.
  virtual ~Engine() = default;

  // Thread-safe, never blocks. On OK, `sink` is called until OnFinish and must live until then; bad
  // prompts (too long, not UTF-8, no chat template) are reported through OnFinish. On error it is
  // never called: ResourceExhausted when the queue is full, InvalidArgument for sampling parameters
  // out of range, Cancelled while stopping.
  virtual absl::StatusOr<RequestId> Submit(GenerateRequest request, TokenSink* sink) = 0;

  // Thread-safe, never blocks. The request ends within one step with FinishReason::kCancelled and
  // what it has so far. Unknown or finished ids are ignored.
  virtual void Cancel(RequestId id) = 0;

  // Thread-safe, never blocks; `done` is called on a tokenizer thread, or at once with
  // ResourceExhausted if the queue is full.
  virtual void Tokenize(PromptInput input,
                        std::function<void(absl::StatusOr<TokenizeResult>)> done) = 0;

  // Text of one token, for logprobs; U+FFFD where it is only part of a character. Thread-safe.
  virtual std::string TokenText(TokenId token) const = 0;

  // Thread-safe. A room in the queue has opened since a Submit of a row of a job, below
  // kInteractivePriority, returned ResourceExhausted: `ready` is called once, on an engine thread
  // or within this call. At most one waiter: a later call replaces an earlier one.
  virtual void NotifyWhenRoom(std::function<void()> ready) = 0;

  // Thread-safe. Records the tasks of the next `max_steps` steps; a trace that runs is replaced.
  virtual void StartTrace(int32_t max_steps) = 0;
  // Thread-safe, never blocks. What was recorded since StartTrace(), as Chrome trace-event JSON
  // with one track per lane; FailedPrecondition if no trace was started.
  virtual absl::StatusOr<std::string> StopTrace() = 0;

  virtual const ModelInfo& model() const = 0;
  virtual const PlanInfo& plan() const = 0;
  virtual EngineStats Stats() const = 0;  // thread-safe
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_ENGINE_H_
