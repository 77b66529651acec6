// Daemon: the store, the engine, the dispatcher and the services, put together and taken apart in
// the right order.
//
// Threads: Start, LoadModel, Reload, Drain and Stop are called from one thread, in this order.
// Owns: everything named above. Borrows the logger.
// Errors: those of the parts; a Daemon that could not load its model must still be stopped.
#ifndef MOELIGHT_SERVER_DAEMON_H_
#define MOELIGHT_SERVER_DAEMON_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "engine/base/logger.h"
#include "engine/engine.h"
#include "server/access.h"
#include "server/admin_service.h"
#include "server/admission.h"
#include "server/batch_job_service.h"
#include "server/config.h"
#include "server/dispatcher.h"
#include "server/inference_service.h"
#include "server/job_durations.h"
#include "server/job_store.h"
#include "server/metrics.h"
#include "server/open_inference_service.h"
#include "server/rpc_server.h"
#include "server/throughput_meter.h"
#include "server/tls_certificates.h"

namespace moelight {

using EngineFactory = std::function<absl::StatusOr<std::unique_ptr<Engine>>(
    const EngineOptions& options, Logger& logger, EngineObserver* observer)>;

struct DaemonOptions {
  Config config;
  std::string version;
  Logger& logger;
  EngineFactory create_engine;
  // The Drain RPC was called; on a gRPC thread.
  std::function<void(std::chrono::seconds grace)> on_drain;
  // The store can no longer write; on its thread. Nothing is acknowledged afterwards.
  std::function<void(absl::Status)> on_store_failure;
  // The engine's device failed; on the engine's thread, before any row is answered with it. Must
  // end the process: after a restart the rows run again.
  std::function<void(absl::Status)> on_device_failure;
};

class Daemon {
 public:
  // Opens the store and listens. Calls that need the model answer UNAVAILABLE until LoadModel.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(DaemonOptions options);
  ~Daemon();

  // Blocks until the model is loaded; then jobs run and new work is accepted.
  absl::Status LoadModel();
  // Takes what can change of `fresh`, all of it or, if it or a file it names is not good, nothing.
  // The outcome, with the keys that need a restart, is in the log.
  void Reload(const absl::StatusOr<Config>& fresh);
  // Refuses new work and lets rows in flight finish; `drained` is called on another thread.
  void Drain(std::function<void()> drained);
  // Refuses new work, stops what runs and closes everything. Rows that were running run again after
  // the next start.
  void Stop();

  bool is_loading() const { return admission_.phase() == Phase::kLoading; }  // thread-safe
  int port() const { return rpc_server_->port(); }
  int admin_port() const;    // 0: none
  int metrics_port() const;  // 0: none
  const Metrics& metrics() const { return *metrics_; }

 private:
  explicit Daemon(DaemonOptions options);
  absl::Status OpenStore();
  absl::Status LoadAccess();
  absl::Status StartServers();
  absl::Status Listen();
  MetricLevels Levels();
  absl::Status TryReload(const Config& fresh);
  void StopAccepting();
  void SetServing(bool serving);

  const DaemonOptions options_;
  Config config_;  // in force; of the options' one only what can be reloaded differs
  // In the order in which they depend on each other.
  const std::shared_ptr<Metrics> metrics_;
  ThroughputMeter throughput_;
  const std::unique_ptr<EngineObserver> observer_;
  Admission admission_;
  std::unique_ptr<Access> access_;
  std::unique_ptr<TlsCertificates> tls_;  // null: plain text
  std::unique_ptr<JobStore> store_;
  std::unique_ptr<JobDurations> job_durations_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::unique_ptr<BatchJobServiceImpl> batch_job_service_;
  std::unique_ptr<InferenceServiceImpl> inference_service_;
  std::unique_ptr<OpenInferenceServiceImpl> open_inference_service_;
  std::unique_ptr<AdminServiceImpl> admin_service_;
  std::unique_ptr<RpcServer> rpc_server_;
  std::unique_ptr<RpcServer> admin_server_;  // null: none
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_DAEMON_H_
