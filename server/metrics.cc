#include "server/metrics.h"

#include <exception>
#include <map>

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>

#include "engine/base/check.h"

namespace moelight {
namespace {

constexpr double kSecondsPerMicrosecond = 1e-6;
constexpr size_t kHttpThreads = 2;

// Of what was seen up to a step, in the mean after it: half is forgotten after 69 steps.
constexpr double kRecentShare = 0.99;

// Cause of a stall with no task to wait for: the next one had not been launched yet.
const char kStallByLaunch[] = "launch";

size_t RowIndex(absl::string_view name) {
  const absl::Span<const MetricRow> rows = Metrics::Rows();
  for (size_t i = 0; i < rows.size(); ++i) {
    if (name == rows[i].name) return i;
  }
  CHECK(false) << "no metric is called " << name;
  return 0;
}

std::map<std::string, std::string> Labels(const MetricRow& row,
                                          const std::vector<std::string>& values) {
  CHECK_EQ(row.labels.size(), values.size()) << row.name;
  std::map<std::string, std::string> labels;
  for (size_t i = 0; i < values.size(); ++i) labels[row.labels[i]] = values[i];
  return labels;
}

template <typename Metric, typename Builder>
prometheus::Family<Metric>* Register(Builder builder, const MetricRow& row,
                                     prometheus::Registry& registry) {
  return &builder.Name(row.name).Help(row.help).Register(registry);
}

}  // namespace

Metrics::Metrics(absl::string_view version) {
  for (const MetricRow& row : Rows()) {
    counters_.push_back(nullptr);
    gauges_.push_back(nullptr);
    histograms_.push_back(nullptr);
    switch (row.kind) {
      case MetricKind::kCounter:
        counters_.back() =
            Register<prometheus::Counter>(prometheus::BuildCounter(), row, registry_);
        break;
      case MetricKind::kGauge:
        gauges_.back() = Register<prometheus::Gauge>(prometheus::BuildGauge(), row, registry_);
        break;
      case MetricKind::kHistogram:
        histograms_.back() =
            Register<prometheus::Histogram>(prometheus::BuildHistogram(), row, registry_);
        break;
    }
    for (const std::vector<const char*>& initial : row.initial) {
      const LabelValues values(initial.begin(), initial.end());
      if (row.kind == MetricKind::kCounter) CounterOf(row.name, values);
      if (row.kind == MetricKind::kGauge) GaugeOf(row.name, values);
      if (row.kind == MetricKind::kHistogram) HistogramOf(row.name, values);
    }
  }
  GaugeOf("moelight_build_info", {std::string(version)}).Set(1);
  GaugeOf("moelight_start_timestamp_seconds")
      .Set(absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()));
}

prometheus::Counter& Metrics::CounterOf(const char* name, const LabelValues& values) {
  const size_t i = RowIndex(name);
  return counters_[i]->Add(Labels(Rows()[i], values));
}

prometheus::Gauge& Metrics::GaugeOf(const char* name, const LabelValues& values) const {
  const size_t i = RowIndex(name);
  return gauges_[i]->Add(Labels(Rows()[i], values));
}

prometheus::Histogram& Metrics::HistogramOf(const char* name, const LabelValues& values) {
  const size_t i = RowIndex(name);
  return histograms_[i]->Add(Labels(Rows()[i], values), Rows()[i].buckets);
}

void Metrics::SetSource(std::function<MetricLevels()> source) {
  MutexLock lock(&mutex_);
  source_ = std::move(source);
}

void Metrics::SetEngine(const ModelInfo& model, const PlanInfo& plan) {
  GaugeOf("moelight_model_info", {model.name, model.architecture}).Set(1);
  GaugeOf("moelight_plan_info",
          {plan.backend, plan.schedule, absl::StrCat(plan.num_micro_batches),
           absl::StrCat(plan.max_running_sequences), plan.kv_format,
           plan.prediction.has_value() ? plan.prediction->bottleneck : "unknown"})
      .Set(1);
  if (plan.prediction.has_value()) {
    GaugeOf("moelight_plan_predicted_step_seconds")
        .Set(plan.prediction->step_us * kSecondsPerMicrosecond);
  }
  for (const MemoryUse& use : plan.memory) {
    GaugeOf("moelight_memory_bytes", {use.tier, use.tag}).Increment(use.bytes);
  }
  GaugeOf("moelight_host_memory_pinned").Set(plan.host_memory_pinned ? 1 : 0);
  if (plan.probed_h2d_bytes_per_s > 0) {
    GaugeOf("moelight_link_probed_bytes_per_second").Set(plan.probed_h2d_bytes_per_s);
  }
  MutexLock lock(&mutex_);
  probed_h2d_bytes_per_s_ = plan.probed_h2d_bytes_per_s;
}

void Metrics::CountRejected(absl::string_view reason) {
  CounterOf("moelight_admission_rejected_total", {std::string(reason)}).Increment();
}

void Metrics::CountRefusedConnection(absl::string_view reason) {
  CounterOf("moelight_connections_refused_total", {std::string(reason)}).Increment();
}

void Metrics::CountReload(bool taken) {
  CounterOf("moelight_config_reloads_total", {taken ? "taken" : "refused"}).Increment();
}

void Metrics::ObserveCommit(double seconds) {
  HistogramOf("moelight_store_commit_seconds").Observe(seconds);
}

void Metrics::ObserveJob(double seconds) {
  HistogramOf("moelight_job_duration_seconds").Observe(seconds);
}

void Metrics::AddRpcInFlight(const std::string& method, int change) {
  GaugeOf("moelight_rpc_in_flight", {method}).Increment(change);
}

void Metrics::ObserveRpc(const std::string& method, absl::StatusCode code, double seconds) {
  CounterOf("moelight_rpc_calls_total", {method, absl::StatusCodeToString(code)}).Increment();
  HistogramOf("moelight_rpc_seconds", {method}).Observe(seconds);
}

void Metrics::OnStep(const StepStats& stats) {
  HistogramOf("moelight_step_seconds").Observe(stats.step_us * kSecondsPerMicrosecond);
  for (const Lane lane : kAllLanes) {
    const std::string name(LaneName(lane));
    const int i = static_cast<int>(lane);
    CounterOf("moelight_lane_busy_seconds_total", {name})
        .Increment(stats.lane_busy_us[i] * kSecondsPerMicrosecond);
    for (const Lane cause : kAllLanes) {
      const double stall_us = stats.lane_stall_us[i][static_cast<int>(cause)];
      if (stall_us == 0) continue;
      CounterOf("moelight_lane_stall_seconds_total",
                {name, cause == lane ? kStallByLaunch : std::string(LaneName(cause))})
          .Increment(stall_us * kSecondsPerMicrosecond);
    }
  }
  CounterOf("moelight_preempted_sequences_total").Increment(stats.num_preempted_sequences);
  CounterOf("moelight_recomputed_tokens_total").Increment(stats.num_recomputed_tokens);
  CounterOf("moelight_shared_prompt_tokens_total").Increment(stats.num_shared_prompt_tokens);
  CounterOf("moelight_transfer_bytes_total", {"h2d"}).Increment(stats.h2d_bytes);
  CounterOf("moelight_transfer_bytes_total", {"d2h"}).Increment(stats.d2h_bytes);
  CounterOf("moelight_transfer_overlapped_seconds_total")
      .Increment(stats.transfer_overlapped_us * kSecondsPerMicrosecond);
  MutexLock lock(&mutex_);
  transfer_us_ += stats.lane_busy_us[static_cast<int>(Lane::kHostToDevice)] +
                  stats.lane_busy_us[static_cast<int>(Lane::kDeviceToHost)];
  transfer_overlapped_us_ += stats.transfer_overlapped_us;
  h2d_us_ += stats.lane_busy_us[static_cast<int>(Lane::kHostToDevice)];
  h2d_bytes_ += stats.h2d_bytes;
  if (stats.predicted_wall_us <= 0) return;
  recent_wall_us_ = kRecentShare * recent_wall_us_ + stats.wall_us;
  recent_predicted_us_ = kRecentShare * recent_predicted_us_ + stats.predicted_wall_us;
}

void Metrics::OnRequestFinished(const GenerateResult& result, const RequestStats& stats) {
  const bool is_cancelled = absl::IsCancelled(result.status);
  std::string reason = is_cancelled ? "cancelled" : "error";
  if (result.status.ok() && !result.choices.empty()) {
    reason = std::string(FinishReasonName(result.choices[0].finish_reason));
  }
  CounterOf("moelight_requests_finished_total", {reason}).Increment();
  if (!result.status.ok() && !is_cancelled) {
    CounterOf("moelight_request_errors_total", {absl::StatusCodeToString(result.status.code())})
        .Increment();
  }
  CounterOf("moelight_prompt_tokens_total").Increment(stats.num_prompt_tokens);
  CounterOf("moelight_generated_tokens_total").Increment(stats.num_generated_tokens);
  HistogramOf("moelight_request_queue_seconds").Observe(stats.queue_seconds);
  HistogramOf("moelight_request_e2e_seconds").Observe(stats.e2e_seconds);
}

void Metrics::SetLevels(const MetricLevels& levels) const {
  for (const auto& [state, num_jobs] : levels.store.jobs_by_state) {
    if (state == v1::BatchJob::STATE_UNSPECIFIED) continue;
    const std::string name = v1::BatchJob::State_Name(state).substr(sizeof("STATE_") - 1);
    GaugeOf("moelight_jobs", {absl::AsciiStrToLower(name)}).Set(num_jobs);
  }
  GaugeOf("moelight_queue_depth").Set(levels.store.queued_rows);
  GaugeOf("moelight_queued_prompt_tokens").Set(levels.store.queued_tokens);
  GaugeOf("moelight_store_queue_depth").Set(levels.store.queued_mutations);
  GaugeOf("moelight_rows_in_flight").Set(levels.rows_in_flight);
  GaugeOf("moelight_connections", {"server"}).Set(levels.server_connections);
  GaugeOf("moelight_connections", {"admin"}).Set(levels.admin_connections);
  if (levels.certificate_expires_s.has_value()) {
    GaugeOf("moelight_tls_certificate_expires_timestamp_seconds")
        .Set(*levels.certificate_expires_s);
  }
  GaugeOf("moelight_append_buffer_bytes").Set(levels.append_buffer_bytes);
  GaugeOf("moelight_ready").Set(levels.is_serving ? 1 : 0);
  GaugeOf("moelight_resident_memory_bytes").Set(levels.resident_memory_bytes);
  GaugeOf("moelight_store_disk_free_bytes").Set(levels.store_disk_free_bytes);
  if (!levels.engine.has_value()) return;
  const EngineStats& engine = *levels.engine;
  GaugeOf("moelight_engine_queue_depth").Set(engine.num_queued);
  GaugeOf("moelight_running_sequences").Set(engine.num_running);
  GaugeOf("moelight_kv_cache_usage_ratio")
      .Set(engine.num_kv_pages == 0
               ? 0
               : static_cast<double>(engine.num_kv_pages_used) / engine.num_kv_pages);
}

std::vector<prometheus::MetricFamily> Metrics::Collect() const {
  {
    MutexLock lock(&mutex_);
    if (source_ != nullptr) SetLevels(source_());
    GaugeOf("moelight_io_overlap_ratio")
        .Set(transfer_us_ == 0 ? 0 : transfer_overlapped_us_ / transfer_us_);
    if (recent_wall_us_ > 0) {
      GaugeOf("moelight_step_prediction_error_ratio")
          .Set(recent_predicted_us_ / recent_wall_us_ - 1);
    }
    if (probed_h2d_bytes_per_s_ > 0) {
      const double h2d_seconds = h2d_us_ * kSecondsPerMicrosecond;
      GaugeOf("moelight_link_bandwidth_ratio")
          .Set(h2d_seconds == 0 ? 0 : h2d_bytes_ / h2d_seconds / probed_h2d_bytes_per_s_);
    }
  }
  return registry_.Collect();
}

absl::StatusOr<std::unique_ptr<prometheus::Exposer>> ServeMetrics(
    const std::string& listen, const std::shared_ptr<Metrics>& metrics) {
  try {
    auto exposer = std::make_unique<prometheus::Exposer>(listen, kHttpThreads);
    exposer->RegisterCollectable(metrics);
    return exposer;
  } catch (const std::exception& exception) {
    return absl::UnavailableError(
        absl::StrCat("cannot serve metrics on ", listen, ": ", exception.what()));
  }
}

}  // namespace moelight
