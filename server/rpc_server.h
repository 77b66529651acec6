// RpcServer: the gRPC listener with its limits, TLS, health and reflection.
//
// Health names: "live" while the process runs; "ready", "" and each service by its full name while
// the model is loaded and new work is accepted. They answer from the first moment on, so that a
// prober can tell loading from dead.
//
// Threads: gRPC's own. Start, SetServing and Shutdown are called from the composition root.
// Owns: the listener. Borrows the services, which must outlive it.
// Errors: Unavailable when the address is taken, InvalidArgument for PEM files that cannot be read.
#ifndef MOELIGHT_SERVER_RPC_SERVER_H_
#define MOELIGHT_SERVER_RPC_SERVER_H_

#include <chrono>
#include <memory>
#include <vector>

#include <absl/status/statusor.h>
#include <grpcpp/server.h>

#include "server/config.h"

namespace moelight {

class RpcServer {
 public:
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(
      const Config& config, const std::vector<grpc::Service*>& services);
  ~RpcServer();

  int port() const { return port_; }  // the one taken, if the configuration said 0
  // Health of "ready" and the services. They begin as not serving.
  void SetServing(bool serving);
  // Refuses new connections at once, ends the calls that are still open after `grace`, and returns
  // when none is left.
  void Shutdown(std::chrono::milliseconds grace);

 private:
  RpcServer() = default;

  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_RPC_SERVER_H_
