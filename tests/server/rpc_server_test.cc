// Goal: health answers for every phase, TLS lets in whom it should, a taken address is an error.
#include <fstream>
#include <sstream>
#include <string>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include "tests/server/daemon_fixture.h"

namespace moelight {
namespace {

std::string ReadData(const std::string& name) {
  std::ifstream stream(absl::StrCat(MOELIGHT_SOURCE_DIR, "/tests/data/server/", name));
  std::ostringstream text;
  text << stream.rdbuf();
  EXPECT_FALSE(text.str().empty()) << name;
  return text.str();
}

class RpcServerTest : public DaemonTest {
 protected:
  // grpc.health.v1.HealthCheckResponse.ServingStatus: 1 serving, 2 not; -1: NOT_FOUND. The messages
  // are so small that their bytes are written out here: field 1 is the name, field 1 the status.
  int Health(const std::string& service) {
    std::string bytes;
    if (!service.empty()) bytes = absl::StrCat("\x0a", std::string(1, service.size()), service);
    std::string answer;
    const grpc::Status status =
        CallRaw(NewChannel(), "/grpc.health.v1.Health/Check", bytes, *NewContext(), &answer);
    if (status.error_code() == grpc::StatusCode::NOT_FOUND) return -1;
    EXPECT_TRUE(status.ok()) << status.error_message();
    return answer.size() == 2 ? answer[1] : 0;
  }

  grpc::Status List(const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    const auto channel =
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", daemon().port()), credentials);
    v1::ListBatchJobsResponse jobs;
    return v1::BatchJobService::NewStub(channel)->ListBatchJobs(NewContext().get(), {}, &jobs);
  }
};

TEST_F(RpcServerTest, HealthTellsLoadingServingAndDrainingApart) {
  const char* const kReadyNames[] = {"",
                                     "ready",
                                     "moelight.v1.BatchJobService",
                                     "moelight.v1.InferenceService",
                                     "moelight.v1.AdminService",
                                     "inference.GRPCInferenceService"};
  StartDaemon(/*load_model=*/false);
  EXPECT_EQ(Health("live"), 1);
  for (const char* name : kReadyNames) EXPECT_EQ(Health(name), 2) << name;
  ASSERT_TRUE(daemon().LoadModel().ok());
  EXPECT_EQ(Health("live"), 1);
  for (const char* name : kReadyNames) EXPECT_EQ(Health(name), 1) << name;
  daemon().Drain([]() {});
  EXPECT_EQ(Health("live"), 1);
  for (const char* name : kReadyNames) EXPECT_EQ(Health(name), 2) << name;
  EXPECT_EQ(Health("nobody"), -1);
}

TEST_F(RpcServerTest, AddressInUseIsAnError) {
  StartDaemon();
  RpcServerOptions other;
  other.listen = absl::StrCat("127.0.0.1:", daemon().port());
  EXPECT_TRUE(absl::IsUnavailable(RpcServer::Start(other).status()));
}

TEST_F(RpcServerTest, TlsServesThoseWhoTrustIt) {
  const std::string data = absl::StrCat(MOELIGHT_SOURCE_DIR, "/tests/data/server/");
  config().tls = {.cert = data + "server.pem", .key = data + "server.key", .client_ca = ""};
  StartDaemon();
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = ReadData("ca.pem");
  const grpc::Status status = List(grpc::SslCredentials(options));
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(List(grpc::InsecureChannelCredentials()).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(RpcServerTest, MutualTlsWantsAClientCertificate) {
  const std::string data = absl::StrCat(MOELIGHT_SOURCE_DIR, "/tests/data/server/");
  config().tls = {
      .cert = data + "server.pem", .key = data + "server.key", .client_ca = data + "ca.pem"};
  StartDaemon();
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = ReadData("ca.pem");
  EXPECT_EQ(List(grpc::SslCredentials(options)).error_code(), grpc::StatusCode::UNAVAILABLE);
  options.pem_cert_chain = ReadData("client.pem");
  options.pem_private_key = ReadData("client.key");
  const grpc::Status status = List(grpc::SslCredentials(options));
  EXPECT_TRUE(status.ok()) << status.error_message();
}

}  // namespace
}  // namespace moelight
