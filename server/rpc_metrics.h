// What becomes of every call of a server, gRPC's own services included: how many, how long, how
// they ended, how many are open.
//
// Threads: thread-safe.
#ifndef MOELIGHT_SERVER_RPC_METRICS_H_
#define MOELIGHT_SERVER_RPC_METRICS_H_

#include <memory>
#include <string>

#include <absl/strings/string_view.h>
#include <grpcpp/support/server_interceptor.h>

#include "server/metrics.h"

namespace moelight {

// Value of the label `method` for a path "/package.Service/Method": "Service/Method" if this
// program knows the method, else "other". A client chooses the path, so it must not name a series.
std::string RpcMethodLabel(absl::string_view path);

// Installed after interceptors that change the status, it counts what the client is told. `metrics`
// must outlive the server.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeRpcMetrics(
    Metrics& metrics);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_RPC_METRICS_H_
