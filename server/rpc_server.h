// RpcServer: one gRPC listener with its limits, TLS, health and reflection.
//
// Health names: "live" while the process runs; "ready", "" and each service by its full name while
// the model is loaded and new work is accepted. They answer from the first moment on, so that a
// prober can tell loading from dead.
//
#include "server/connection_listener.h"
#include "server/metrics.h"
#include "server/tls_certificates.h"
#ifndef MOELIGHT_SERVER_RPC_SERVER_H_
#define MOELIGHT_SERVER_RPC_SERVER_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "server/config.h"
#include "server/connection_listener.h"
#include "server/tls_certificates.h"

namespace moelight {

struct RpcServerOptions {
  std::string listen;  // HOST:PORT
  RpcLimits limits;
  TlsCertificates* tls = nullptr;  // null: plain text
  bool has_health = true;
  bool has_reflection = true;
  std::vector<grpc::Service*> services;
  Metrics* metrics = nullptr;  // counts calls; null: nobody does
  std::function<void(absl::string_view reason)>
      on_refused;  // a connection, by connection_listener.h
};

class RpcServer {
 public:
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(RpcServerOptions options);
  ~RpcServer();

  int port() const { return listener_->port(); }  // the one taken, if the configuration said 0
  int64_t num_connections() const { return listener_->num_connections(); }
  void SetConnectionLimits(const ConnectionLimits& limits) { listener_->SetLimits(limits); }
  // Health of "ready" and the services. They begin as not serving.
  void SetServing(bool serving);
  // Refuses new connections at once, ends the calls that are still open after `grace`, and returns
  // when none is left.
  void Shutdown(std::chrono::milliseconds grace);

 private:
  RpcServer() = default;

  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<ConnectionListener> listener_;  // goes first: it hands connections to the others
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_RPC_SERVER_H_
