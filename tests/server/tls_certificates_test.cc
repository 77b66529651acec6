// Goal: files that do not fit are refused by name; a replacement reaches new connections only, and
// open ones go on.
#include "server/tls_certificates.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/auth_context.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include "tests/server/daemon_fixture.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

std::string DataFile(const std::string& name) {
  return absl::StrCat(MOELIGHT_SOURCE_DIR, "/tests/data/server/", name);
}

std::string ReadData(const std::string& name) {
  std::ifstream stream(DataFile(name));
  std::ostringstream text;
  text << stream.rdbuf();
  EXPECT_FALSE(text.str().empty()) << name;
  return text.str();
}

TlsOptions Files(const std::string& cert, const std::string& key, const std::string& ca = "") {
  return {
      .cert = DataFile(cert), .key = DataFile(key), .client_ca = ca.empty() ? "" : DataFile(ca)};
}

TEST(LoadTlsTest, TellsWhichFileIsWrong) {
  const struct {
    TlsOptions options;
    const char* error;
  } cases[] = {
      {Files("none.pem", "server.key"), "none.pem: cannot be opened"},
      {Files("README.md", "server.key"), "README.md: holds no PEM certificate"},
      {Files("server.pem", "server.pem"), "server.pem: holds no PEM private key"},
      {Files("server.pem", "client.key"), "client.key: is not the key of "},
      {Files("server.pem", "server.key", "server.key"), "server.key: holds no PEM certificate"},
  };
  for (const auto& c : cases) {
    const auto material = LoadTls(c.options);
    EXPECT_EQ(material.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(material.status().message(), HasSubstr(c.error));
  }
  const auto material = LoadTls(Files("other.pem", "other.key", "ca.pem"));
  ASSERT_TRUE(material.ok()) << material.status();
  EXPECT_GT(material->expires, absl::Now());
}

class TlsReloadTest : public DaemonTest {
 protected:
  TlsReloadTest() {
    Install("server");
    config().tls = {.cert = path("cert.pem"), .key = path("key.pem"), .client_ca = ""};
  }

  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  void Install(const std::string& name, const std::string& key = "") {
    using std::filesystem::copy_options;
    std::filesystem::copy(DataFile(name + ".pem"), path("cert.pem"),
                          copy_options::overwrite_existing);
    std::filesystem::copy(DataFile((key.empty() ? name : key) + ".key"), path("key.pem"),
                          copy_options::overwrite_existing);
  }

  std::shared_ptr<grpc::Channel> Connect() {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = ReadData("ca.pem") + ReadData("other.pem");
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetSslTargetNameOverride("localhost");
    return grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", daemon().port()),
                                     grpc::SslCredentials(options), arguments);
  }

  // The common name that the server shows on this channel; empty if the call fails.
  static std::string NameOn(const std::shared_ptr<grpc::Channel>& channel) {
    const auto context = NewContext();
    v1::ListBatchJobsResponse jobs;
    const grpc::Status status =
        v1::BatchJobService::NewStub(channel)->ListBatchJobs(context.get(), {}, &jobs);
    if (!status.ok()) return "";
    const auto names = context->auth_context()->FindPropertyValues("x509_common_name");
    return names.empty() ? "" : std::string(names[0].data(), names[0].size());
  }

  TempFolder folder_;
};

TEST_F(TlsReloadTest, NewConnectionsGetTheNewCertificateAndOpenOnesGoOn) {
  StartDaemon();
  const auto open = Connect();
  const std::string before = NameOn(open);
  EXPECT_NE(before, "");
  EXPECT_NE(before, "other");
  // A call that stays open over the change.
  v1::WatchBatchJobRequest request;
  v1::BatchJob job;
  const auto jobs = v1::BatchJobService::NewStub(open);
  v1::CreateBatchJobResponse created;
  ASSERT_TRUE(jobs->CreateBatchJob(NewContext().get(), {}, &created).ok());
  request.set_job_id(created.job().job_id());
  const auto context = NewContext();
  const auto watch = jobs->WatchBatchJob(context.get(), request);
  v1::WatchBatchJobResponse update;
  ASSERT_TRUE(watch->Read(&update));

  Install("other");
  daemon().Reload(config());
  EXPECT_EQ(NameOn(Connect()), "other");
  EXPECT_EQ(NameOn(open), before);
  v1::CancelBatchJobRequest cancel;
  cancel.set_job_id(created.job().job_id());
  v1::CancelBatchJobResponse cancelled;
  ASSERT_TRUE(jobs->CancelBatchJob(NewContext().get(), cancel, &cancelled).ok());
  while (watch->Read(&update)) continue;
  EXPECT_TRUE(watch->Finish().ok());
}

TEST_F(TlsReloadTest, ACertificateWithoutItsKeyIsRefusedAndTheOldOneStays) {
  StartDaemon();
  const std::string before = NameOn(Connect());
  Install("other", "server");
  daemon().Reload(config());
  EXPECT_EQ(NameOn(Connect()), before);
}

}  // namespace
}  // namespace moelight
