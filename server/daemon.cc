#include "server/daemon.h"

#include <thread>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "engine/base/status_macros.h"
#include "server/config_reload.h"
#include "server/config_values.h"
#include "server/process_levels.h"

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

absl::Status CheckDescriptors(const Config& config) {
  const int64_t needed = DescriptorsNeeded(config);
  const int64_t limit = RaiseDescriptorLimit();
  if (needed <= limit) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("server.limits.connections: ", config.rpc_limits.connections, " need ", needed,
                   " descriptors, the process may have ", limit, " (ulimit -n)"));
}

// What tenants may hold, as the store has it.
JobStoreLimits StoreLimits(const Config& config, const Tenants& tenants) {
  JobStoreLimits limits = config.store_limits;
  for (const Tenant& tenant : tenants.all()) limits.clients[tenant.name] = tenant.quota;
  return limits;
}

absl::StatusOr<Tenants> LoadTenants(const Config& config) {
  return config.tenants_file.empty() ? Tenants() : Tenants::Load(config.tenants_file);
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
      config_(options_.config),
      metrics_(std::make_shared<Metrics>(options_.version)),
      observer_(std::make_unique<EngineWatch>(*metrics_, throughput_, options_.on_device_failure)),
      admission_(MakeAdmissionOptions(options_.config, *metrics_)) {}

Daemon::~Daemon() { Stop(); }

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(DaemonOptions options) {
  auto daemon = std::unique_ptr<Daemon>(new Daemon(std::move(options)));
  RETURN_IF_ERROR(daemon->LoadAccess());
  RETURN_IF_ERROR(daemon->OpenStore());
  RETURN_IF_ERROR(daemon->Listen());
  return daemon;
}

absl::Status Daemon::LoadAccess() {
  const Config& config = options_.config;
  std::optional<Tenants> tenants;
  if (!config.tenants_file.empty()) {
    ASSIGN_OR_RETURN(tenants, LoadTenants(config));
  }
  access_ = std::make_unique<Access>(
      std::move(tenants), [this](absl::string_view reason) { metrics_->CountRejected(reason); });
  if (config.tls.cert.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(TlsMaterial material, LoadTls(config.tls));
  tls_ = std::make_unique<TlsCertificates>(std::move(material));
  return absl::OkStatus();
}

absl::Status Daemon::OpenStore() {
  const Config& config = options_.config;
  JobStoreOptions store_options;
  store_options.path = config.store_path;
  ASSIGN_OR_RETURN(const Tenants tenants, LoadTenants(config));
  store_options.limits = StoreLimits(config, tenants);
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
      BatchJobServiceOptions{*store_, *access_, admission_, throughput_, logger,
                             config.rpc_limits.append_messages, config.rpc_limits.results_message});
  inference_service_ = std::make_unique<InferenceServiceImpl>(
      InferenceServiceOptions{*access_, admission_, logger, config.rpc_limits.stream_buffer,
                              config.rpc_limits.message_bytes, config.store_limits.row_bytes});
  open_inference_service_ = std::make_unique<OpenInferenceServiceImpl>(
      OpenInferenceServiceOptions{*access_, admission_, logger, options_.version,
                                  config.rpc_limits.infer_rows, config.rpc_limits.stream_buffer});
  admin_service_ = std::make_unique<AdminServiceImpl>(AdminServiceOptions{
      *access_, admission_, logger, config, options_.version,
      [this](int32_t grace_seconds) { options_.on_drain(std::chrono::seconds(grace_seconds)); }});
  RETURN_IF_ERROR(StartServers());
  metrics_->SetSource([this]() { return Levels(); });
  if (!config.metrics_listen.empty()) {
    ASSIGN_OR_RETURN(exposer_, ServeMetrics(config.metrics_listen, metrics_));
  }
  logger.Info("listening", {{"address", config.listen},
                            {"port", port()},
                            {"admin_port", admin_port()},
                            {"metrics_port", metrics_port()},
                            {"tls", tls_ != nullptr},
                            {"keys", access_->is_required()}});
  return absl::OkStatus();
}

absl::Status Daemon::StartServers() {
  const Config& config = options_.config;
  RETURN_IF_ERROR(CheckDescriptors(config));
  RpcServerOptions options;
  options.limits = config.rpc_limits;
  options.metrics = metrics_.get();
  options.on_refused = [this](absl::string_view reason) {
    metrics_->CountRefusedConnection(reason);
  };
  // gRPC's own services ask nobody for a key, so where one is needed only the admin listener's
  // health is left of them, for probes.
  const bool is_open = !access_->is_required();
  RpcServerOptions admin = options;
  options.listen = config.listen;
  options.tls = tls_.get();
  options.has_health = is_open;
  options.has_reflection = is_open;
  options.services = {batch_job_service_.get(), inference_service_.get(),
                      open_inference_service_.get()};
  ASSIGN_OR_RETURN(rpc_server_, RpcServer::Start(std::move(options)));
  if (config.admin_listen.empty()) return absl::OkStatus();
  admin.listen = config.admin_listen;
  ASSIGN_OR_RETURN(const HostPort address, ParseHostPort(config.admin_listen));
  admin.tls = IsLoopback(address) ? nullptr : tls_.get();
  admin.has_reflection = is_open;
  admin.services = {admin_service_.get()};
  ASSIGN_OR_RETURN(admin_server_, RpcServer::Start(std::move(admin)));
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
  SetServing(admission_.phase() == Phase::kServing);
  options_.logger.Info("ready", {{"model", engine_->model().name},
                                 {"architecture", engine_->model().architecture},
                                 {"backend", engine_->plan().backend},
                                 {"schedule", engine_->plan().schedule}});
  return absl::OkStatus();
}

void Daemon::StopAccepting() {
  admission_.StartDraining();
  SetServing(false);
}

void Daemon::SetServing(bool serving) {
  if (rpc_server_ != nullptr) rpc_server_->SetServing(serving);
  if (admin_server_ != nullptr) admin_server_->SetServing(serving);
}

void Daemon::Reload(const absl::StatusOr<Config>& fresh) {
  const absl::Status status = fresh.ok() ? TryReload(*fresh) : fresh.status();
  metrics_->CountReload(status.ok());
  if (!status.ok()) options_.logger.Error("reload_refused", {{"reason", status.message()}});
}

absl::Status Daemon::TryReload(const Config& fresh) {
  const ConfigReload reload = MergeReload(config_, fresh);
  // Everything that can fail comes first.
  absl::StatusOr<Tenants> tenants = LoadTenants(reload.config);
  absl::StatusOr<TlsMaterial> material =
      tls_ == nullptr ? TlsMaterial() : LoadTls(reload.config.tls);
  absl::Status status = CheckDescriptors(reload.config);
  status.Update(tenants.status());
  status.Update(material.status());
  RETURN_IF_ERROR(status);

  if (config_.log_level != reload.config.log_level) {
    options_.logger.set_level(*ParseLogLevel(reload.config.log_level));
  }
  config_ = reload.config;
  const RpcLimits& limits = config_.rpc_limits;
  for (RpcServer* server : {rpc_server_.get(), admin_server_.get()}) {
    if (server == nullptr) continue;
    server->SetConnectionLimits({limits.connections, limits.connections_per_peer});
  }
  store_->SetLimits(StoreLimits(config_, *tenants));
  if (access_->is_required()) access_->Replace(*std::move(tenants));
  if (tls_ != nullptr) tls_->Replace(*std::move(material));
  admin_service_->SetConfig(config_);
  options_.logger.Info("reloaded", {{"changed", absl::StrJoin(reload.changed, ", ")}});
  if (!reload.needs_restart.empty()) {
    options_.logger.Warning("needs_restart", {{"keys", absl::StrJoin(reload.needs_restart, ", ")}});
  }
  return absl::OkStatus();
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
  // Both at once, so that the grace passes only once.
  std::thread admin_stop([this]() {
    if (admin_server_ != nullptr) admin_server_->Shutdown(kCallGrace);
  });
  if (rpc_server_ != nullptr) rpc_server_->Shutdown(kCallGrace);
  admin_stop.join();
  engine_.reset();
  store_.reset();
  rpc_server_.reset();  // after the threads that finish calls are joined
  admin_server_.reset();
  exposer_stop.join();
}

int Daemon::admin_port() const { return admin_server_ == nullptr ? 0 : admin_server_->port(); }

int Daemon::metrics_port() const {
  return exposer_ == nullptr ? 0 : exposer_->GetListeningPorts().at(0);
}

MetricLevels Daemon::Levels() {
  MetricLevels levels;
  levels.is_serving = admission_.phase() == Phase::kServing;
  levels.resident_memory_bytes = ResidentMemoryBytes();
  levels.store_disk_free_bytes = FreeDiskBytes(options_.config.store_path);
  if (engine_ != nullptr) levels.engine = engine_->Stats();
  levels.store = store_->levels();
  job_durations_->Scan(levels.store, [this](double seconds) { metrics_->ObserveJob(seconds); });
  if (dispatcher_ != nullptr) levels.rows_in_flight = dispatcher_->num_rows_in_flight();
  levels.append_buffer_bytes = admission_.append_budget().used();
  if (rpc_server_ != nullptr) levels.server_connections = rpc_server_->num_connections();
  if (admin_server_ != nullptr) levels.admin_connections = admin_server_->num_connections();
  if (tls_ != nullptr)
    levels.certificate_expires_s = absl::ToDoubleSeconds(tls_->expires() - absl::UnixEpoch());
  return levels;
}

}  // namespace moelight
