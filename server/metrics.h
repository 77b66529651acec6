// Metrics: every family that /metrics shows, fed by the engine, the store and the services.
//
// A new family is one row of the table in metrics_table.cc; REFERENCE.md shows it. No label takes
// an unbounded set of values: no job ids, no peers.
//
// Threads: all methods are thread-safe and none blocks for longer than a map lookup. A scrape reads
// levels through the source given to SetSource.
#ifndef MOELIGHT_SERVER_METRICS_H_
#define MOELIGHT_SERVER_METRICS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>
#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "engine/base/mutex.h"
#include "engine/engine.h"
#include "server/job_store.h"

namespace moelight {

enum class MetricKind : uint8_t { kCounter, kGauge, kHistogram };

struct MetricRow {
  const char* name;
  MetricKind kind;
  const char* help;
  std::vector<const char*> labels;
  // Label values whose series exist from the start, so that a rate is known to be zero.
  std::vector<std::vector<const char*>> initial;
  std::vector<double> buckets;  // of a histogram
};

// Levels at the moment of a scrape.
struct MetricLevels {
  std::optional<EngineStats> engine;  // absent while loading
  JobStore::Levels store;
  int64_t rows_in_flight = 0;
  int64_t append_buffer_bytes = 0;
  int64_t server_connections = 0;
  int64_t admin_connections = 0;
  std::optional<double> certificate_expires_s;  // since 1970; absent without TLS
  bool is_serving = false;
  int64_t resident_memory_bytes = 0;
  int64_t store_disk_free_bytes = 0;
};

class Metrics final : public prometheus::Collectable, public EngineObserver {
 public:
  explicit Metrics(absl::string_view version);

  static absl::Span<const MetricRow> Rows();

  // Read at each scrape; the call never outlasts a SetSource that replaces it.
  void SetSource(std::function<MetricLevels()> source);
  // What is known once the model is loaded.
  void SetEngine(const ModelInfo& model, const PlanInfo& plan);

  void CountRejected(absl::string_view reason);
  void CountRefusedConnection(absl::string_view reason);
  void CountReload(bool taken);
  void ObserveCommit(double seconds);
  void ObserveJob(double seconds);  // from creation to end
  // `method` is a RpcMethodLabel().
  void AddRpcInFlight(const std::string& method, int change);
  void ObserveRpc(const std::string& method, absl::StatusCode code, double seconds);

  void OnStep(const StepStats& stats) override;
  void OnRequestFinished(const GenerateResult& result, const RequestStats& stats) override;

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  using LabelValues = std::vector<std::string>;
  prometheus::Counter& CounterOf(const char* name, const LabelValues& values = {});
  prometheus::Gauge& GaugeOf(const char* name, const LabelValues& values = {}) const;
  prometheus::Histogram& HistogramOf(const char* name, const LabelValues& values = {});
  void SetLevels(const MetricLevels& levels) const;

  prometheus::Registry registry_;
  // By position in Rows(); null where the kind is another.
  std::vector<prometheus::Family<prometheus::Counter>*> counters_;
  std::vector<prometheus::Family<prometheus::Gauge>*> gauges_;
  std::vector<prometheus::Family<prometheus::Histogram>*> histograms_;

  mutable Mutex mutex_;
  std::function<MetricLevels()> source_ ABSL_GUARDED_BY(mutex_);
  double transfer_us_ ABSL_GUARDED_BY(mutex_) = 0;             // since the start
  double transfer_overlapped_us_ ABSL_GUARDED_BY(mutex_) = 0;  // of that, beside compute
  double h2d_us_ ABSL_GUARDED_BY(mutex_) = 0;                  // of that, to the device
  double h2d_bytes_ ABSL_GUARDED_BY(mutex_) = 0;               // since the start
  // Of the last steps, older ones fading out.
  double recent_wall_us_ ABSL_GUARDED_BY(mutex_) = 0;
  double recent_predicted_us_ ABSL_GUARDED_BY(mutex_) = 0;
  double probed_h2d_bytes_per_s_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: not measured
};

// Serves /metrics over HTTP on "HOST:PORT" until destroyed, with two threads.
absl::StatusOr<std::unique_ptr<prometheus::Exposer>> ServeMetrics(
    const std::string& listen, const std::shared_ptr<Metrics>& metrics);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_METRICS_H_
