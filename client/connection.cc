#include "client/connection.h"

#include <algorithm>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/client_interceptor.h>

#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

// A chat answer with logprobs for n choices can pass gRPC's default of 4 MiB.
constexpr int kMaxReceiveBytes = 256 << 20;

// After a restart the server is back within a second; gRPC's own default would look again only
// after a second at first and up to two minutes later.
constexpr int kMinReconnectMs = 50;
constexpr int kMaxReconnectMs = 1000;

// Finds a peer that vanished without closing the connection. Servers refuse idle pings that come
// more often than every five minutes unless they are configured otherwise.
constexpr int kKeepaliveMs = 330'000;
constexpr int kKeepaliveTimeoutMs = 20'000;

// How long an interrupt may go unnoticed while the server is away.
constexpr absl::Duration kStopCheckInterval = absl::Milliseconds(100);

grpc::ChannelArguments MakeChannelArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kMinReconnectMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kMaxReconnectMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  // Jobs go to the server that was named, not through a proxy that the shell happens to name.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Retries are ours: gRPC's transparent ones would hide from AppendRows that a stream began anew.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // Two clients of one process must not share a connection whose back-off state they then share.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetUserAgentPrefix("moelight-client");
  return arguments;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(
    const std::optional<TlsOptions>& tls) {
  if (!tls.has_value()) return grpc::InsecureChannelCredentials();
  if (tls->cert_pem.empty() != tls->key_pem.empty()) {
    return absl::InvalidArgumentError(
        "a client certificate needs its key and a key its certificate; only one was given");
  }
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = tls->ca_pem;
  options.pem_cert_chain = tls->cert_pem;
  options.pem_private_key = tls->key_pem;
  return grpc::SslCredentials(options);
}

// "HOST:PORT" with a port from 1 to 65535; an IPv6 host stands in brackets.
absl::Status CheckAddress(const std::string& server) {
  const size_t colon = server.rfind(':');
  int port = 0;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(server.substr(colon + 1), &port) || port < 1 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("server address \"", server, "\" is not HOST:PORT"));
  }
  return absl::OkStatus();
}

bool IsLoopback(absl::string_view server) {
  const absl::string_view host = server.substr(0, server.rfind(':'));
  return host == "localhost" || host == "[::1]" || absl::StartsWith(host, "127.");
}

// Adds the key to every call of a channel.
class KeySender final : public grpc::experimental::Interceptor {
 public:
  explicit KeySender(const std::string& value) : value_(value) {}
  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using Point = grpc::experimental::InterceptionHookPoints;
    if (methods->QueryInterceptionHookPoint(Point::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->insert({"authorization", value_});
    }
    methods->Proceed();
  }

 private:
  const std::string& value_;
};

class KeySenderFactory final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit KeySenderFactory(absl::string_view key) : value_(absl::StrCat("Bearer ", key)) {}
  grpc::experimental::Interceptor* CreateClientInterceptor(
      grpc::experimental::ClientRpcInfo* /*info*/) override {
    return new KeySender(value_);
  }

 private:
  const std::string value_;  // outlives the calls of its channel
};

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& server,
                                                           const ClientOptions& options,
                                                           const std::optional<TlsOptions>& tls) {
  RETURN_IF_ERROR(CheckAddress(server));
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials,
                   MakeCredentials(tls));
  if (options.api_key.empty()) {
    return grpc::CreateCustomChannel(server, credentials, MakeChannelArguments());
  }
  if (!options.tls.has_value() && !IsLoopback(server)) {
    return absl::InvalidArgumentError(
        absl::StrCat("an API key would go to ", server, " in clear text; use TLS"));
  }
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> factories;
  factories.push_back(std::make_unique<KeySenderFactory>(options.api_key));
  return grpc::experimental::CreateCustomChannelWithInterceptors(
      server, credentials, MakeChannelArguments(), std::move(factories));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Connection>> Connection::Create(const ClientOptions& options) {
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel,
                   MakeChannel(options.server, options, options.tls));
  return std::unique_ptr<Connection>(new Connection(options, std::move(channel)));
}

absl::StatusOr<std::unique_ptr<Connection>> Connection::CreateAdmin(const ClientOptions& options) {
  // The listener for administration has no TLS on loopback.
  const bool is_plain = IsLoopback(options.admin_server);
  ASSIGN_OR_RETURN(
      std::shared_ptr<grpc::Channel> channel,
      MakeChannel(options.admin_server, options, is_plain ? std::nullopt : options.tls));
  return std::unique_ptr<Connection>(new Connection(options, std::move(channel)));
}

Connection::Connection(const ClientOptions& options, std::shared_ptr<grpc::Channel> channel)
    : options_(options),
      channel_(std::move(channel)),
      jobs_(v1::BatchJobService::NewStub(channel_)),
      inference_(v1::InferenceService::NewStub(channel_)),
      admin_(v1::AdminService::NewStub(channel_)),
      health_(grpc::health::v1::Health::NewStub(channel_)) {}

bool Connection::WaitForServer(absl::Duration duration, const std::stop_token& stop) const {
  // A server that is connected and says UNAVAILABLE is loading or leaving: give it the time.
  if (channel_->GetState(/*try_to_connect=*/true) == GRPC_CHANNEL_READY) {
    return WaitUnlessStopped(duration, stop);
  }
  // Not a plain wait, because a connection attempt of this channel only moves forward while a
  // thread polls it; a refused one would otherwise stand until its time-out. In slices, for the
  // stop token.
  const absl::Time end = absl::Now() + duration;
  while (!stop.stop_requested()) {
    const absl::Time slice_end = std::min(end, absl::Now() + kStopCheckInterval);
    if (channel_->WaitForConnected(absl::ToChronoTime(slice_end))) return true;
    if (slice_end == end) return true;
  }
  return false;
}

}  // namespace moelight::client
