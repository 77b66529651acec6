#include "server/config_keys.h"

#include <algorithm>
#include <limits>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "server/config_values.h"

namespace moelight {
namespace {

// A reference to one field of a Config, as ConfigBinding wants it.
#define FIELD(type, member) [](Config& config) -> type& { return config.member; }

constexpr int64_t kKiB = 1LL << 10;
constexpr int64_t kMiB = 1LL << 20;
constexpr int64_t kGiB = 1LL << 30;
constexpr int64_t kTiB = 1LL << 40;
constexpr int64_t kMillion = 1'000'000;
constexpr int64_t kDay = 24 * 3600;

const std::vector<ConfigKey>& Table() {
  using Kind = ConfigKind;
  static const auto* const table = new std::vector<ConfigKey>{
      // --- server ---
      {"server.listen", Kind::kString, FIELD(std::string, listen),
       "address of the gRPC listener, HOST:PORT; port 0 takes a free one"},
      {"server.allow_insecure", Kind::kBool, FIELD(bool, allow_insecure),
       "listen on an address other than loopback without TLS"},
      {"server.tls.cert", Kind::kPath, FIELD(std::string, tls.cert),
       "PEM file with the server's certificate chain; empty: no TLS"},
      {"server.tls.key", Kind::kPath, FIELD(std::string, tls.key),
       "PEM file with the certificate's private key"},
      {"server.tls.client_ca", Kind::kPath, FIELD(std::string, tls.client_ca),
       "PEM file; set: clients must show a certificate signed by it"},
      {"server.client_weights", Kind::kString, FIELD(std::string, client_weights),
       "in what proportion clients share the machine, NAME=WEIGHT, ...; others have 1"},
      {"server.limits.message_bytes", Kind::kSize, FIELD(int64_t, rpc_limits.message_bytes),
       "one request message", 64 * kKiB, 64 * kMiB},
      {"server.limits.rpc_memory", Kind::kSize, FIELD(int64_t, rpc_limits.memory_bytes),
       "gRPC's buffers, all connections", 16 * kMiB, kTiB},
      {"server.limits.concurrent_streams", Kind::kInteger,
       FIELD(int32_t, rpc_limits.concurrent_streams), "calls at once per connection", 1, 10'000},
      {"server.limits.stream_buffer", Kind::kSize, FIELD(int64_t, rpc_limits.stream_buffer),
       "unsent output of one Generate call; a slower reader is cut off", 64 * kKiB, kGiB},
      {"server.limits.append_buffer", Kind::kSize, FIELD(int64_t, rpc_limits.append_buffer),
       "rows received and not yet on disk, all calls", kMiB, kGiB},
      {"server.limits.append_messages", Kind::kInteger, FIELD(int32_t, rpc_limits.append_messages),
       "messages of one append call received and not yet on disk", 1, 64},
      {"server.limits.results_message", Kind::kSize, FIELD(int64_t, rpc_limits.results_message),
       "aim for one message of ReadBatchResults; one larger result makes a larger message",
       4 * kKiB, 3 * kMiB},
      {"server.limits.rows_in_flight", Kind::kInteger, FIELD(int32_t, rpc_limits.rows_in_flight),
       "rows of jobs in the engine, waiting or running; 0: a full batch and half the engine's "
       "queue",
       0, kMillion},
      {"server.limits.jobs", Kind::kInteger, FIELD(int64_t, store_limits.jobs),
       "jobs kept, ended ones included", 1, kMillion},
      {"server.limits.rows_per_job", Kind::kInteger, FIELD(int64_t, store_limits.rows_per_job),
       "rows of one job", 1, 1'000 * kMillion},
      {"server.limits.row_bytes", Kind::kSize, FIELD(int64_t, store_limits.row_bytes), "one row",
       kKiB, 64 * kMiB},
      {"server.limits.queued_rows", Kind::kInteger, FIELD(int64_t, store_limits.queued_rows),
       "rows without result, all jobs", 1, 1'000 * kMillion},
      {"server.limits.queued_tokens", Kind::kInteger, FIELD(int64_t, store_limits.queued_tokens),
       "estimated prompt tokens of those rows", 1, kMillion * kMillion},
      // --- store ---
      {"store.path", Kind::kPath, FIELD(std::string, store_path),
       "folder of the job database, created if absent"},
      {"store.retention", Kind::kDuration, FIELD(int64_t, store_retention_seconds),
       "ended jobs are removed after this; 0: never", 0, 3650 * kDay},
      // --- metrics ---
      {"metrics.listen", Kind::kString, FIELD(std::string, metrics_listen),
       "address of the Prometheus endpoint /metrics, HOST:PORT; empty: none"},
      // --- engine ---
      {"engine.model", Kind::kPath, FIELD(std::string, engine.model),
       "model folder in the Hugging Face layout"},
      {"engine.device",
       Kind::kChoice,
       FIELD(std::string, engine.device),
       "where the model runs",
       0,
       0,
       {"auto", "cuda", "cpu", "reference"}},
      {"engine.load_format",
       Kind::kChoice,
       FIELD(std::string, engine.load_format),
       "where weights come from; dummy: random ones, from config.json alone",
       0,
       0,
       {"auto", "safetensors", "dummy"}},
      {"engine.host_memory", Kind::kSize, FIELD(int64_t, engine.host_memory_bytes),
       "cap on the engine's host memory; 0: half of what is free at start", 0, 1024 * kTiB},
      {"engine.gpu_memory", Kind::kSize, FIELD(int64_t, engine.gpu_memory_bytes),
       "cap on the engine's GPU memory, bare context aside; 0: 90 % of what is free at start", 0,
       1024 * kTiB},
      {"engine.weight_format",
       Kind::kChoice,
       FIELD(std::string, weight_format),
       "format of expert weights in memory; auto: the backend's own",
       0,
       0,
       {"auto"},
       {"f32", "bf16", "f16", "fp8", "int8", "int4", "mxfp4"},
       "this build has no choice of weight formats"},
      {"engine.kv_format",
       Kind::kChoice,
       FIELD(std::string, engine.kv_format),
       "format of the KV cache; auto: bf16. With f16 or int8 all attention is on the CPU",
       0,
       0,
       {"auto", "bf16", "f16", "int8"},
       {"f32", "fp8"},
       "this build has no such KV cache format"},
      {"engine.schedule",
       Kind::kChoice,
       FIELD(std::string, engine.schedule),
       "order of a step's tasks",
       0,
       0,
       {"auto", "cgopipe", "serial", "flexgen", "flexgen_cpu"}},
      {"engine.weight_page", Kind::kSize, FIELD(int64_t, engine.weight_page_bytes),
       "unit in which expert weights are copied to the GPU, a power of two; 0: by policy", 0, kGiB},
      {"engine.weight_ring_percent", Kind::kInteger, FIELD(int32_t, engine.weight_ring_percent),
       "GPU memory for streamed weights, in percent of what one layer streams; 0: by policy", 0,
       200},
      {"engine.num_micro_batches", Kind::kInteger, FIELD(int32_t, engine.num_micro_batches),
       "parts that a step is cut into, at least; 0: by policy", 0, 64},
      {"engine.policy",
       Kind::kChoice,
       FIELD(std::string, engine.policy),
       "how batch sizes and placement are chosen where this file leaves them open",
       0,
       0,
       {"auto", "manual"}},
      {"engine.objective",
       Kind::kChoice,
       FIELD(std::string, engine.objective),
       "what the policy is best in",
       0,
       0,
       {"throughput", "energy"}},
      {"engine.hardware_profile", Kind::kPath, FIELD(std::string, hardware_profile),
       "what the machine can do, as moelightd probe writes it; empty: probed at the first start "
       "and "
       "kept in store.path"},
      {"engine.expected_prompt_tokens", Kind::kInteger,
       FIELD(int32_t, engine.workload.mean_prompt_tokens),
       "mean length of prompts that the policy is made for", 1, 16 * kMillion},
      {"engine.expected_max_prompt_tokens", Kind::kInteger,
       FIELD(int32_t, engine.workload.max_prompt_tokens),
       "length of the longest prompts that the policy is made for", 1, 16 * kMillion},
      {"engine.expected_output_tokens", Kind::kInteger,
       FIELD(int32_t, engine.workload.num_output_tokens),
       "mean length of answers that the policy is made for", 1, 16 * kMillion},
      {"engine.cpu_threads", Kind::kInteger, FIELD(int32_t, engine.cpu_threads),
       "compute threads; 0: all cores but one, at least one", 0, 1024},
      // Not a choice: the table of instruction sets is the engine's, which checks the name.
      {"engine.cpu_isa", Kind::kString, FIELD(std::string, engine.cpu_isa),
       "instruction set of the CPU kernels; auto: the best that this machine has"},
      {"engine.cpu_pinning",
       Kind::kChoice,
       FIELD(std::string, engine.cpu_pinning),
       "whether compute threads keep to one core each",
       0,
       0,
       {"auto", "on", "off"}},
      {"engine.max_running_sequences", Kind::kInteger, FIELD(int32_t, engine.max_running_sequences),
       "sequences in the batch; 0: by policy", 0, 65'536},
      {"engine.max_step_tokens", Kind::kInteger, FIELD(int32_t, engine.max_step_tokens),
       "prompt and decode tokens in one step; 0: by policy", 0, kMillion},
      {"engine.max_model_len", Kind::kInteger, FIELD(int32_t, engine.max_model_len),
       "tokens of prompt and answer together; 0: what the model allows", 0, 16 * kMillion},
      {"engine.kv_page_tokens", Kind::kInteger, FIELD(int32_t, engine.kv_page_tokens),
       "token positions per page of the KV cache", 1, 1024},
      {"engine.prefill",
       Kind::kChoice,
       FIELD(std::string, engine.prefill),
       "whether prompts are computed beside decode tokens, in chunks, or in steps of their own",
       0,
       0,
       {"mixed", "separate"}},
      {"engine.admission",
       Kind::kChoice,
       FIELD(std::string, engine.admission),
       "whether a sequence takes KV pages as it grows, or for its longest length at once",
       0,
       0,
       {"paged", "reserved"}},
      {"engine.expert_coalescing",
       Kind::kChoice,
       FIELD(std::string, engine.expert_coalescing),
       "whether the experts of a layer run once over several micro-batches together",
       0,
       0,
       {"auto", "on", "off"}},
      {"engine.prefix_sharing", Kind::kBool, FIELD(bool, engine.prefix_sharing),
       "rows of a job share the KV pages of equal prompt beginnings"},
      {"engine.max_queued_requests", Kind::kInteger, FIELD(int32_t, engine.max_queued_requests),
       "requests submitted to the engine and not yet running", 1, kMillion},
      {"engine.tokenizer_threads", Kind::kInteger, FIELD(int32_t, engine.tokenizer_threads),
       "threads that render chats and tokenize", 1, 64},
      // --- log ---
      {"log.level",
       Kind::kChoice,
       FIELD(std::string, log_level),
       "least severe line written",
       0,
       0,
       {"debug", "info", "warning", "error", "off"}},
      {"log.format",
       Kind::kChoice,
       FIELD(std::string, log_format),
       "text for people, json for collectors; both go to stderr",
       0,
       0,
       {"text", "json"}},
  };
  return *table;
}

#undef FIELD

template <typename T>
T& Get(const ConfigKey& key, Config& config) {
  return std::get<T& (*)(Config&)>(key.binding)(config);
}

int64_t GetNumber(const ConfigKey& key, Config& config) {
  if (std::holds_alternative<int32_t& (*)(Config&)>(key.binding)) return Get<int32_t>(key, config);
  return Get<int64_t>(key, config);
}

std::string FormatNumber(ConfigKind kind, int64_t value) {
  if (kind == ConfigKind::kSize) return FormatSize(value);
  if (kind == ConfigKind::kDuration) return FormatDuration(value);
  return absl::StrCat(value);
}

absl::Status SetNumber(const ConfigKey& key, absl::string_view text, Config& config) {
  const auto parse = key.kind == ConfigKind::kSize       ? ParseSize
                     : key.kind == ConfigKind::kDuration ? ParseDuration
                                                         : ParseInteger;
  ASSIGN_OR_RETURN(const int64_t value, parse(text));
  if (value < key.min || value > key.max) {
    return absl::InvalidArgumentError(absl::StrCat(text, " is out of range: ", DescribeRange(key)));
  }
  if (std::holds_alternative<int32_t& (*)(Config&)>(key.binding)) {
    CHECK_LE(value, std::numeric_limits<int32_t>::max()) << "range of " << key.path;
    Get<int32_t>(key, config) = static_cast<int32_t>(value);
  } else {
    Get<int64_t>(key, config) = value;
  }
  return absl::OkStatus();
}

absl::Status SetChoice(const ConfigKey& key, absl::string_view text, Config& config) {
  const auto contains = [&](const std::vector<absl::string_view>& list) {
    return std::find(list.begin(), list.end(), text) != list.end();
  };
  if (contains(key.refused_choices)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" cannot take effect: ", key.refusal));
  }
  if (!contains(key.choices)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not ", DescribeRange(key)));
  }
  Get<std::string>(key, config) = std::string(text);
  return absl::OkStatus();
}

}  // namespace

absl::Span<const ConfigKey> ConfigKeys() { return Table(); }

const ConfigKey* FindConfigKey(absl::string_view path) {
  const auto it = std::find_if(Table().begin(), Table().end(),
                               [&](const ConfigKey& key) { return key.path == path; });
  return it == Table().end() ? nullptr : &*it;
}

absl::Status SetConfigValue(const ConfigKey& key, absl::string_view text, Config& config) {
  switch (key.kind) {
    case ConfigKind::kString:
    case ConfigKind::kPath:
      Get<std::string>(key, config) = std::string(text);
      return absl::OkStatus();
    case ConfigKind::kBool: {
      ASSIGN_OR_RETURN(Get<bool>(key, config), ParseBool(text));
      return absl::OkStatus();
    }
    case ConfigKind::kInteger:
    case ConfigKind::kSize:
    case ConfigKind::kDuration:
      return SetNumber(key, text, config);
    case ConfigKind::kChoice:
      return SetChoice(key, text, config);
  }
  return absl::InternalError("kind of key");
}

std::string FormatConfigValue(const ConfigKey& key, const Config& config) {
  Config copy = config;  // the bindings give mutable references
  switch (key.kind) {
    case ConfigKind::kString:
    case ConfigKind::kPath:
    case ConfigKind::kChoice:
      return Get<std::string>(key, copy);
    case ConfigKind::kBool:
      return Get<bool>(key, copy) ? "true" : "false";
    case ConfigKind::kInteger:
    case ConfigKind::kSize:
    case ConfigKind::kDuration:
      return FormatNumber(key.kind, GetNumber(key, copy));
  }
  return "";
}

std::optional<int64_t> ConfigLimit(const ConfigKey& key, const Config& config) {
  if (!absl::StartsWith(key.path, "server.limits.") && !absl::StartsWith(key.path, "engine.max_")) {
    return std::nullopt;
  }
  Config copy = config;
  return GetNumber(key, copy);
}

std::string DescribeRange(const ConfigKey& key) {
  switch (key.kind) {
    case ConfigKind::kString:
    case ConfigKind::kPath:
      return "text";
    case ConfigKind::kBool:
      return "true or false";
    case ConfigKind::kInteger:
    case ConfigKind::kSize:
    case ConfigKind::kDuration:
      return absl::StrCat(FormatNumber(key.kind, key.min), " to ", FormatNumber(key.kind, key.max));
    case ConfigKind::kChoice:
      return key.choices.size() == 1 ? std::string(key.choices[0])
                                     : absl::StrCat("one of ", absl::StrJoin(key.choices, ", "));
  }
  return "";
}

}  // namespace moelight
