#include "server/daemon.h"

#include <thread>
#include <utility>

#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// Open calls may end by themselves for this long once the daemon stops. Streams that follow a job
// never do, and their clients resume, so waiting longer gains nothing.
constexpr std::chrono::milliseconds kCallGrace{500};

// The store must take everything the append calls may have received, and small changes besides.
constexpr int64_t kStoreQueueSlack = 8 << 20;

AdmissionOptions MakeAdmissionOptions(const Config& config, Metrics& metrics) {
  AdmissionOptions options;
  options.row_bytes = config.store_limits.row_bytes;
  options.append_buffer = config.rpc_limits.append_buffer;
  options.expected_output_tokens = config.engine.workload.num_output_tokens;
  options.on_reject = [&metrics](absl::string_view reason) { metrics.CountRejected(reason); };
  return options;
}

// Passes measurements on, and a failure of the device to who can end the process.
class EngineWatch final : public EngineObserver {
 public:
  EngineWatch(EngineObserver& metrics, ThroughputMeter& throughput,
              std::function<void(absl::Status)> on_failure)
      : metrics_(metrics), throughput_(throughput), on_failure_(std::move(on_failure)) {}
  void OnStep(const StepStats& stats) override {
    metrics_.OnStep(stats);
    throughput_.OnStep(stats);
  }
  void OnRequestFinished(const GenerateResult& result, const RequestStats& stats) override {
    metrics_.OnRequestFinished(result, stats);
  }
  void OnDeviceFailure(const absl::Status& status) override {
    if (on_failure_) on_failure_(status);
  }

 private:
  EngineObserver& metrics_;
  ThroughputMeter& throughput_;
  const std::function<void(absl::Status)> on_failure_;
};

}  // namespace

Daemon::Daemon(DaemonOptions options)
    : options_(std::move(options)),
      metrics_(std::make_shared<Metrics>(options_.version)),
      observer_(std::make_unique<EngineWatch>(*metrics_, throughput_, options_.on_device_failure)),
      admission_(MakeAdmissionOptions(options_.config, *metrics_)) {}

Daemon::~Daemon() { Stop(); }

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(DaemonOptions options) {
  auto daemon = std::unique_ptr<Daemon>(new Daemon(std::move(options)));
  RETURN_IF_ERROR(daemon->OpenStore());
  RETURN_IF_ERROR(daemon->Listen());
  return daemon;
}

absl::Status Daemon::OpenStore() {
  const Config& config = options_.config;
  JobStoreOptions store_options;
  store_options.path = config.store_path;
  store_options.limits = config.store_limits;
  ASSIGN_OR_RETURN(store_options.client_weights, ClientWeights::Parse(config.client_weights));
  store_options.retention_seconds = config.store_retention_seconds;
  store_options.max_queued_mutation_bytes = config.rpc_limits.append_buffer * 2 + kStoreQueueSlack;
  store_options.on_fatal = options_.on_store_failure;
  store_options.on_commit = [metrics = metrics_](double seconds) {
    metrics->ObserveCommit(seconds);
  };
  ASSIGN_OR_RETURN(store_, JobStore::Open(std::move(store_options), options_.logger));
  job_durations_ = std::make_unique<JobDurations>(*store_);
  return absl::OkStatus();
}

absl::Status Daemon::Listen() {
  const Config& config = options_.config;
  Logger& logger = options_.logger;
  batch_job_service_ = std::make_unique<BatchJobServiceImpl>(
      BatchJobServiceOptions{*store_, admission_, throughput_, logger,
                             config.rpc_limits.append_messages, config.rpc_limits.results_message});
  inference_service_ = std::make_unique<InferenceServiceImpl>(
      InferenceServiceOptions{admission_, logger, config.rpc_limits.stream_buffer});
  admin_service_ = std::make_unique<AdminServiceImpl>(AdminServiceOptions{
      admission_, logger, config, options_.version,
      [this](int32_t grace_seconds) { options_.on_drain(std::chrono::seconds(grace_seconds)); }});
  ASSIGN_OR_RETURN(rpc_server_,
                   RpcServer::Start(config, {batch_job_service_.get(), inference_service_.get(),
                                             admin_service_.get()}));
  metrics_->SetSource([this]() { return Levels(); });
  if (!config.metrics_listen.empty()) {
    ASSIGN_OR_RETURN(exposer_, ServeMetrics(config.metrics_listen, metrics_));
  }
  logger.Info("listening", {{"address", config.listen},
                            {"port", port()},
                            {"metrics_port", metrics_port()},
                            {"tls", !config.tls.cert.empty()}});
  return absl::OkStatus();
}

absl::Status Daemon::LoadModel() {
  ASSIGN_OR_RETURN(
      std::unique_ptr<Engine> engine,
      options_.create_engine(options_.config.engine, options_.logger, observer_.get()));
  const int32_t max_running = engine->plan().max_running_sequences;
  const int64_t rows_in_flight = RowsInFlight(options_.config, max_running);
  if (rows_in_flight < max_running) {
    options_.logger.Warning(
        "batch_never_full",
        {{"rows_in_flight", rows_in_flight},
         {"max_running_sequences", max_running},
         {"effect", "rows of jobs cannot fill the batch that the policy chose"}});
  }
  DispatcherOptions dispatcher_options;
  dispatcher_options.max_rows_in_flight = rows_in_flight;
  ASSIGN_OR_RETURN(dispatcher_options.client_weights,
                   ClientWeights::Parse(options_.config.client_weights));
  // Levels() reads both pointers on the metrics' threads, so they change between two scrapes.
  metrics_->SetSource(nullptr);
  engine_ = std::move(engine);
  dispatcher_ = Dispatcher::Start(dispatcher_options, *store_, *engine_, options_.logger);
  metrics_->SetSource([this]() { return Levels(); });
  metrics_->SetEngine(engine_->model(), engine_->plan());
  throughput_.SetPlan(engine_->plan());
  admission_.StartServing(*engine_);
  rpc_server_->SetServing(admission_.phase() == Phase::kServing);
  options_.logger.Info("ready", {{"model", engine_->model().name},
                                 {"architecture", engine_->model().architecture},
                                 {"backend", engine_->plan().backend},
                                 {"schedule", engine_->plan().schedule}});
  return absl::OkStatus();
}

void Daemon::StopAccepting() {
  admission_.StartDraining();
  if (rpc_server_ != nullptr) rpc_server_->SetServing(false);
}

void Daemon::Drain(std::function<void()> drained) {
  StopAccepting();
  dispatcher_->Drain(std::move(drained));
}

void Daemon::Stop() {
  StopAccepting();
  metrics_->SetSource(nullptr);
  // The HTTP library looks only every two seconds whether it is to end.
  std::thread exposer_stop([this]() { exposer_.reset(); });
  dispatcher_.reset();
  if (rpc_server_ != nullptr) rpc_server_->Shutdown(kCallGrace);
  engine_.reset();
  store_.reset();
  rpc_server_.reset();  // after the threads that finish calls are joined
  exposer_stop.join();
}

int Daemon::metrics_port() const {
  return exposer_ == nullptr ? 0 : exposer_->GetListeningPorts().at(0);
}

MetricLevels Daemon::Levels() {
  MetricLevels levels;
  if (engine_ != nullptr) levels.engine = engine_->Stats();
  levels.store = store_->levels();
  job_durations_->Scan(levels.store, [this](double seconds) { metrics_->ObserveJob(seconds); });
  if (dispatcher_ != nullptr) levels.rows_in_flight = dispatcher_->num_rows_in_flight();
  levels.append_buffer_bytes = admission_.append_budget().used();
  return levels;
}

}  // namespace moelight
