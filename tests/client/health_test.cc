// Goal: `moelight health` tells probes of Docker and Kubernetes the truth by its exit code: it asks
// once, and neither waits for a server that is away nor hangs on one that is stuck.
#include <unistd.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <gmock/gmock.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>

#include "client/cli.h"
#include "client/exit_code.h"
#include "moelight/v1/admin.grpc.pb.h"

namespace moelight::client {
namespace {

using ::testing::HasSubstr;

struct Outcome {
  int code;
  std::string out;
  std::string err;
};

Outcome Health(int port, std::vector<std::string> args = {}) {
  args.insert(args.begin(), "health");
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  Environment environment{.in = in,
                          .out = out,
                          .err = err,
                          .err_is_terminal = false,
                          .columns = 100,
                          .default_server = "",
                          .default_admin_server = absl::StrCat("127.0.0.1:", port),
                          .stop = {}};
  const int code = Main(args, environment);
  return {code, out.str(), err.str()};
}

// gRPC's own health service, as moelightd has it.
class HealthServer {
 public:
  HealthServer() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }
  void Set(const char* service, bool serving) {
    server_->GetHealthCheckService()->SetServingStatus(service, serving);
  }
  void Stop() { server_->Shutdown(std::chrono::system_clock::now()); }
  int port() const { return port_; }

 private:
  v1::AdminService::Service service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

// A process that is stuck: the kernel accepts the connection, nobody answers.
class SilentListener {
 public:
  SilentListener() : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(socket_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(socket_, 8), 0);
    EXPECT_EQ(getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
  }
  ~SilentListener() { close(socket_); }
  int port() const { return port_; }

 private:
  const int socket_;
  int port_ = 0;
};

TEST(HealthTest, ExitCodeFollowsTheServer) {
  HealthServer server;
  server.Set("", false);
  server.Set("ready", false);
  server.Set("live", true);
  EXPECT_EQ(Health(server.port(), {"--service", "live"}).code, kDone);
  EXPECT_EQ(Health(server.port(), {"--service", "ready"}).code, kNotServing);
  const Outcome loading = Health(server.port());
  EXPECT_EQ(loading.code, kNotServing);
  EXPECT_EQ(loading.out, "NOT_SERVING\n");

  server.Set("", true);
  const Outcome ready = Health(server.port());
  EXPECT_EQ(ready.code, kDone);
  EXPECT_EQ(ready.out, "SERVING\n");
  const Outcome json = Health(server.port(), {"--json", "--service", "live"});
  EXPECT_EQ(nlohmann::json::parse(json.out),
            nlohmann::json({{"service", "live"}, {"status", "SERVING"}}));
}

TEST(HealthTest, UnknownServiceIsNamed) {
  HealthServer server;
  const Outcome outcome = Health(server.port(), {"--service", "alive"});
  EXPECT_EQ(outcome.code, kNotFound);
  EXPECT_THAT(outcome.err, HasSubstr("no health for \"alive\""));
  EXPECT_THAT(outcome.err, HasSubstr("live, ready"));
}

TEST(HealthTest, AServerThatIsAwayIsToldAtOnce) {
  HealthServer server;
  server.Stop();
  // Commands that are tried again ride out an outage for three seconds at first contact.
  const absl::Time start = absl::Now();
  EXPECT_EQ(Health(server.port(), {"--timeout", "600"}).code, kUnreachable);
  EXPECT_LT(absl::Now() - start, absl::Seconds(60));
}

TEST(HealthTest, AServerThatIsStuckIsToldAfterTheTimeout) {
  SilentListener listener;
  const Outcome outcome = Health(listener.port(), {"--timeout", "0.2"});
  EXPECT_EQ(outcome.code, kUnreachable);
  EXPECT_EQ(outcome.out, "");
}

}  // namespace
}  // namespace moelight::client
