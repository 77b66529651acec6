#include "server/rpc_server.h"

#include <fstream>
#include <sstream>

#include <absl/strings/str_cat.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_builder.h>

#include "engine/base/status_macros.h"
#include "moelight/v1/admin.grpc.pb.h"
#include "moelight/v1/batch_job.grpc.pb.h"
#include "moelight/v1/inference.grpc.pb.h"
#include "server/parse_guard.h"

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

absl::StatusOr<std::string> ReadPem(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  if (!stream || !(text << stream.rdbuf())) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": cannot be read"));
  }
  return text.str();
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeCredentials(const TlsOptions& tls) {
  if (tls.cert.empty()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions options(
      tls.client_ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                            : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  grpc::SslServerCredentialsOptions::PemKeyCertPair pair;
  ASSIGN_OR_RETURN(pair.cert_chain, ReadPem(tls.cert));
  ASSIGN_OR_RETURN(pair.private_key, ReadPem(tls.key));
  options.pem_key_cert_pairs.push_back(std::move(pair));
  if (!tls.client_ca.empty()) {
    ASSIGN_OR_RETURN(options.pem_root_certs, ReadPem(tls.client_ca));
  }
  return grpc::SslServerCredentials(options);
}

void SetLimits(const RpcLimits& limits, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(limits.message_bytes));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits.concurrent_streams);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Two daemons on one port would each get half of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, kMaxReflectionThreads);
  grpc::ResourceQuota quota("moelightd");
  quota.Resize(limits.memory_bytes);
  quota.SetMaxThreads(kMaxSyncThreads);
  builder.SetResourceQuota(quota);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(
    const Config& config, const std::vector<grpc::Service*>& services) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  auto server = std::unique_ptr<RpcServer>(new RpcServer);
  grpc::ServerBuilder builder;
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::ServerCredentials> credentials,
                   MakeCredentials(config.tls));
  builder.AddListeningPort(config.listen, std::move(credentials), &server->port_);
  SetLimits(config.rpc_limits, builder);
  for (grpc::Service* service : services) builder.RegisterService(service);
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(MakeParseGuard());
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr || server->port_ == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", config.listen,
                     ": the address is in use or not ours, or the TLS files do not fit together"));
  }
  server->server_->GetHealthCheckService()->SetServingStatus(kLive, true);
  server->SetServing(false);
  return server;
}

RpcServer::~RpcServer() { Shutdown(std::chrono::milliseconds(0)); }

void RpcServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
  for (const char* name :
       {"", "ready", v1::BatchJobService::service_full_name(),
        v1::InferenceService::service_full_name(), v1::AdminService::service_full_name()}) {
    health->SetServingStatus(name, serving);
  }
}

void RpcServer::Shutdown(std::chrono::milliseconds grace) {
  if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now() + grace);
}

}  // namespace moelight
