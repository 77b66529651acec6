// Goal: a running daemon takes what it can of a new configuration and names the rest.
#include "server/config_reload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/config_keys.h"
#include "tests/server/daemon_fixture.h"

namespace moelight {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ConfigReloadTest, EveryListedKeyExists) {
  for (const absl::string_view key : ReloadableKeys()) {
    EXPECT_NE(FindConfigKey(key), nullptr) << key;
  }
}

TEST(ConfigReloadTest, NothingChangedIsNothingToDo) {
  const ConfigReload reload = MergeReload(Config(), Config());
  EXPECT_THAT(reload.changed, IsEmpty());
  EXPECT_THAT(reload.needs_restart, IsEmpty());
}

TEST(ConfigReloadTest, TakesWhatCanChangeAndNamesTheRest) {
  Config current;
  current.tls = {.cert = "/a.pem", .key = "/a.key", .client_ca = ""};
  Config fresh = current;
  fresh.store_limits.queued_rows = 7;
  fresh.rpc_limits.connections = 9;
  fresh.log_level = "debug";
  fresh.tls.cert = "/b.pem";
  fresh.listen = "127.0.0.1:1";
  fresh.engine.cpu_threads = 3;
  // Whether clients show certificates, and whether keys are asked for, is fixed at the start.
  fresh.tls.client_ca = "/ca.pem";
  fresh.tenants_file = "/tenants.yaml";
  const ConfigReload reload = MergeReload(current, fresh);
  EXPECT_THAT(reload.changed, ElementsAre("server.tls.cert", "server.limits.connections",
                                          "server.limits.queued_rows", "log.level"));
  EXPECT_THAT(reload.needs_restart, ElementsAre("server.listen", "server.tls.client_ca",
                                                "server.tenants", "engine.cpu_threads"));
  EXPECT_EQ(reload.config.store_limits.queued_rows, 7);
  EXPECT_EQ(reload.config.rpc_limits.connections, 9);
  EXPECT_EQ(reload.config.log_level, "debug");
  EXPECT_EQ(reload.config.tls.cert, "/b.pem");
  EXPECT_EQ(reload.config.listen, current.listen);
  EXPECT_EQ(reload.config.engine.cpu_threads, current.engine.cpu_threads);
}

class DaemonReloadTest : public DaemonTest {};

TEST_F(DaemonReloadTest, LimitsHoldAtOnceAndAreTold) {
  StartDaemon();
  const std::string id = CreateJob();
  Config fresh = config();
  fresh.store_limits.rows_per_job = 2;
  daemon().Reload(fresh);
  v1::AppendBatchRequestsResponse appended;
  const std::vector<v1::BatchRequest> rows(3, TextRow("a", "b"));
  EXPECT_EQ(Append(id, 0, rows, &appended).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  v1::GetServerInfoResponse info;
  ASSERT_TRUE(admin_->GetServerInfo(NewContext().get(), {}, &info).ok());
  EXPECT_THAT(info.effective_config_yaml(), ::testing::HasSubstr("rows_per_job: 2\n"));
  fresh.store_limits.rows_per_job = 3;
  daemon().Reload(fresh);
  EXPECT_TRUE(Append(id, 0, rows, &appended).ok());
}

TEST_F(DaemonReloadTest, AConfigurationThatIsNotGoodChangesNothing) {
  StartDaemon();
  daemon().Reload(absl::InvalidArgumentError("config.yaml:1: broken"));
  const std::string id = CreateJob();
  EXPECT_NE(id, "");
}

}  // namespace
}  // namespace moelight
