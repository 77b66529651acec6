#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/daemon_fixture.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

using AdminServiceTest = DaemonTest;

TEST_F(AdminServiceTest, ServerInfoDescribesTheDaemon) {
  StartDaemon();
  v1::GetServerInfoResponse info;
  ASSERT_TRUE(admin_->GetServerInfo(NewContext().get(), {}, &info).ok());
  EXPECT_EQ(info.version(), "1.2.3");
  EXPECT_EQ(info.model().name(), "fake");
  EXPECT_EQ(info.model().vocab_size(), 256);
  EXPECT_THAT(info.effective_config_yaml(), HasSubstr("rows_per_job: 10000000"));
  EXPECT_GT(info.start_time().seconds(), 0);
  int64_t rows_in_flight = 0;
  for (const v1::Limit& limit : info.limits()) {
    if (limit.key() == "server.limits.rows_in_flight") rows_in_flight = limit.value();
  }
  EXPECT_EQ(rows_in_flight, 768) << "the value in force, not the 0 that asks for it";
}

TEST_F(AdminServiceTest, WhileLoadingTheModelIsAbsent) {
  StartDaemon(/*load_model=*/false);
  v1::GetServerInfoResponse info;
  ASSERT_TRUE(admin_->GetServerInfo(NewContext().get(), {}, &info).ok());
  EXPECT_FALSE(info.has_model());
  v1::GetPlanResponse plan;
  EXPECT_EQ(admin_->GetPlan(NewContext().get(), {}, &plan).error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

TEST_F(AdminServiceTest, PlanIsTheEngines) {
  StartDaemon();
  v1::GetPlanResponse plan;
  ASSERT_TRUE(admin_->GetPlan(NewContext().get(), {}, &plan).ok());
  EXPECT_EQ(plan.schedule(), engine().plan().schedule);
}

TEST_F(AdminServiceTest, TracesAreUnimplemented) {
  StartDaemon();
  v1::StartTraceResponse started;
  v1::StopTraceResponse stopped;
  EXPECT_EQ(admin_->StartTrace(NewContext().get(), {}, &started).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(admin_->StopTrace(NewContext().get(), {}, &stopped).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(AdminServiceTest, DrainRefusesNewWorkAtOnceAndLetsRowsFinish) {
  engine_options().delay = std::chrono::milliseconds(200);
  StartDaemon();
  const std::string job_id = CreateJob();
  v1::AppendBatchRequestsResponse appended;
  ASSERT_TRUE(Append(job_id, 0, {TextRow("", "x")}, &appended).ok());
  ASSERT_TRUE(Seal(job_id).ok());
  ASSERT_TRUE(Eventually([&]() { return engine().Stats().num_running == 1; }));

  v1::DrainRequest request;
  request.set_grace_seconds(3601);
  v1::DrainResponse response;
  EXPECT_EQ(admin_->Drain(NewContext().get(), request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  request.set_grace_seconds(7);
  ASSERT_TRUE(admin_->Drain(NewContext().get(), request, &response).ok());
  EXPECT_EQ(drain_seconds_, 7);
  v1::BatchJob job;
  EXPECT_EQ(Create({}, &job).error_code(), grpc::StatusCode::UNAVAILABLE);

  std::atomic<bool> drained = false;
  daemon().Drain([&drained]() { drained = true; });
  ASSERT_TRUE(Eventually([&]() { return drained.load(); }));
  EXPECT_TRUE(Eventually([&]() { return Get(job_id).num_succeeded() == 1; }));
}

}  // namespace
}  // namespace moelight
