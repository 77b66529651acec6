#include "server/rpc_server.h"

#include <utility>

#include <absl/strings/str_cat.h>
#include <grpcpp/ext/health_check_service_server_builder_option.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include "engine/base/status_macros.h"
#include "inference/open_inference.grpc.pb.h"
#include "moelight/v1/admin.grpc.pb.h"
#include "moelight/v1/batch_job.grpc.pb.h"
#include "moelight/v1/inference.grpc.pb.h"
#include "server/parse_guard.h"
#include "server/rpc_metrics.h"

namespace moelight {
namespace {

constexpr char kLive[] = "live";

// Headers of a call; ours carry none. gRPC's default is the same, but then depends on its version.
constexpr int kMaxMetadataBytes = 8 << 10;

// A connection whose client is gone is noticed within a minute and a half, and a client that pings
// more often than this is cut off.
constexpr int kKeepaliveMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr int kMinPingIntervalMs = 10'000;

// Reflection is the only synchronous service; everything else runs on gRPC's callback threads.
constexpr int kMaxReflectionThreads = 2;
constexpr int kMaxSyncThreads = 8;

// A handshake takes a few round trips; who needs longer holds a connection for nothing.
constexpr int kHandshakeTimeoutMs = 10'000;

// The reflection library adds itself to every builder; this takes it out of one.
class WithoutReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments* /*arguments*/) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    std::erase_if(*plugins, [](const std::unique_ptr<grpc::ServerBuilderPlugin>& plugin) {
      return plugin->name() == "proto_server_reflection";
    });
  }
};

void SetLimits(const RpcLimits& limits, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(limits.message_bytes));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits.concurrent_streams);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, kMaxReflectionThreads);
  grpc::ResourceQuota quota("moelightd");
  quota.Resize(limits.memory_bytes);
  quota.SetMaxThreads(kMaxSyncThreads);
  builder.SetResourceQuota(quota);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(RpcServerOptions options) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  auto server = std::unique_ptr<RpcServer>(new RpcServer);
  grpc::ServerBuilder builder;
  server->acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      options.tls == nullptr ? grpc::InsecureServerCredentials() : options.tls->MakeCredentials());
  SetLimits(options.limits, builder);
  for (grpc::Service* service : options.services) builder.RegisterService(service);
  if (!options.has_health) {
    builder.SetOption(std::make_unique<grpc::HealthCheckServiceServerBuilderOption>(nullptr));
  }
  if (!options.has_reflection) builder.SetOption(std::make_unique<WithoutReflection>());
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(MakeParseGuard());
  if (options.metrics != nullptr) interceptors.push_back(MakeRpcMetrics(*options.metrics));
  builder.experimental().SetInterceptorCreators(std::move(interceptors));

  ConnectionListenerOptions listener_options;
  listener_options.address = options.listen;
  listener_options.limits = {options.limits.connections, options.limits.connections_per_peer};
  listener_options.on_refused = std::move(options.on_refused);
  listener_options.on_connection = [acceptor = server->acceptor_.get()](int fd) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.fd = fd;
    acceptor->HandleNewConnection(&connection);
  };
  ASSIGN_OR_RETURN(server->listener_, ConnectionListener::Bind(std::move(listener_options)));
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options.listen, ": gRPC refuses to start"));
  }
  if (options.has_health) server->server_->GetHealthCheckService()->SetServingStatus(kLive, true);
  server->SetServing(false);
  server->listener_->Start();
  return server;
}

RpcServer::~RpcServer() { Shutdown(std::chrono::milliseconds(0)); }

void RpcServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
  if (health == nullptr) return;
  for (const char* name : {"", "ready", v1::BatchJobService::service_full_name(),
                           v1::InferenceService::service_full_name(),
                           inference::GRPCInferenceService::service_full_name(),
                           v1::AdminService::service_full_name()}) {
    health->SetServingStatus(name, serving);
  }
}

void RpcServer::Shutdown(std::chrono::milliseconds grace) {
  if (listener_ != nullptr) listener_->Stop();
  if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now() + grace);
}

}  // namespace moelight
