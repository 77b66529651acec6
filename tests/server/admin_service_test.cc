#include <map>
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
  // The values in force, not the 0 that asks for them: those of the engine's plan.
  std::map<std::string, int64_t> limits;
  for (const v1::Limit& limit : info.limits()) limits[limit.key()] = limit.value();
  EXPECT_EQ(limits["engine.max_running_sequences"], engine_options().max_running);
  EXPECT_EQ(limits["server.limits.rows_in_flight"], engine_options().max_running + 512);
  EXPECT_EQ(limits["server.limits.rows_per_job"], 10'000'000);
}

TEST_F(AdminServiceTest, WhileLoadingTheModelIsAbsent) {
  StartDaemon(/*load_model=*/false);
  v1::GetServerInfoResponse info;
  ASSERT_TRUE(admin_->GetServerInfo(NewContext().get(), {}, &info).ok());
  EXPECT_FALSE(info.has_model());
  v1::GetPlanResponse plan;
  EXPECT_EQ(admin_->GetPlan(NewContext().get(), {}, &plan).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  v1::StartTraceResponse started;
  EXPECT_EQ(admin_->StartTrace(NewContext().get(), {}, &started).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  v1::StopTraceResponse stopped;
  EXPECT_EQ(admin_->StopTrace(NewContext().get(), {}, &stopped).error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

TEST_F(AdminServiceTest, PlanIsTheEngines) {
  StartDaemon();
  v1::GetPlanResponse plan;
  ASSERT_TRUE(admin_->GetPlan(NewContext().get(), {}, &plan).ok());
  EXPECT_EQ(plan.schedule(), engine().plan().schedule);
}

TEST(PlanToProtoTest, CarriesEveryValue) {
  PlanInfo plan;
  plan.schedule = "cgopipe";
  plan.max_running_sequences = 1;
  plan.max_step_tokens = 2;
  plan.num_micro_batches = 3;
  plan.kv_format = "int8";
  plan.kv_page_tokens = 4;
  plan.num_kv_pages = 5;
  plan.weight_page_bytes = 6;
  plan.num_weight_pages = 7;
  plan.num_resident_weight_pages = 8;
  plan.num_ring_slots = 9;
  plan.host_memory_pinned = true;
  plan.probed_h2d_bytes_per_s = 10;
  plan.memory = {{"gpu", "weight_ring", 11}};
  const v1::GetPlanResponse proto = ToProto(plan);
  EXPECT_EQ(proto.ShortDebugString(),
            "schedule: \"cgopipe\" max_running_sequences: 1 max_step_tokens: 2 "
            "num_micro_batches: 3 kv_page_tokens: 4 num_kv_pages: 5 "
            "memory { tier: \"gpu\" tag: \"weight_ring\" bytes: 11 } weight_page_bytes: 6 "
            "num_weight_pages: 7 num_resident_weight_pages: 8 num_ring_slots: 9 "
            "host_memory_pinned: true probed_h2d_bytes_per_s: 10 kv_format: \"int8\"");
}

TEST(PlanToProtoTest, CarriesThePrediction) {
  PlanInfo plan;
  EXPECT_FALSE(ToProto(plan).has_prediction());
  PlanPrediction& prediction = plan.prediction.emplace();
  prediction.hardware = "box";
  prediction.workload = {1, 2, 3};
  prediction.num_sequences = 4;
  prediction.step_us = 5;
  prediction.lane_us = {6, 7, 8, 9};
  prediction.host_us = 10;
  prediction.bottleneck = "h2d";
  prediction.bound_us = 11;
  prediction.tokens_per_s = 12;
  prediction.bound_tokens_per_s = 13;
  prediction.joules_per_token = 14;
  prediction.alternatives = {{"twice the link", 15, true}};
  prediction.tensors = {{"experts, resident", "gpu", 16}};
  EXPECT_EQ(ToProto(plan).prediction().ShortDebugString(),
            "hardware: \"box\" mean_prompt_tokens: 1 max_prompt_tokens: 2 num_output_tokens: 3 "
            "num_sequences: 4 step_us: 5 lanes { lane: \"gpu\" us: 6 } lanes { lane: \"cpu\" us: 7 "
            "} lanes { lane: \"h2d\" us: 8 } lanes { lane: \"d2h\" us: 9 } host_us: 10 bottleneck: "
            "\"h2d\" bound_us: 11 tokens_per_s: 12 bound_tokens_per_s: 13 joules_per_token: 14 "
            "alternatives { what: \"twice the link\" tokens_per_s: 15 is_available: true } "
            "tensors { name: \"experts, resident\" place: \"gpu\" bytes: 16 }");
}

TEST_F(AdminServiceTest, TracesAreTheEngines) {
  StartDaemon();
  const auto stop = [this](v1::StopTraceResponse* response) {
    return admin_->StopTrace(NewContext().get(), {}, response);
  };
  v1::StopTraceResponse stopped;
  EXPECT_EQ(stop(&stopped).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  const struct {
    int32_t num_steps;
    const char* trace;  // null: refused
  } rows[] = {{-1, nullptr},
              {1001, nullptr},
              {0, "{\"max_steps\":16}"},
              {1, "{\"max_steps\":1}"},
              {1000, "{\"max_steps\":1000}"}};
  for (const auto& row : rows) {
    v1::StartTraceRequest request;
    request.set_num_steps(row.num_steps);
    v1::StartTraceResponse started;
    const grpc::Status status = admin_->StartTrace(NewContext().get(), request, &started);
    if (row.trace == nullptr) {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << row.num_steps;
      EXPECT_THAT(status.error_message(), HasSubstr("num_steps: "));
      continue;
    }
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_TRUE(stop(&stopped).ok());
    EXPECT_EQ(stopped.trace_json(), row.trace);
  }
}

TEST_F(AdminServiceTest, ATraceTooLargeForAMessageIsRefusedWithBothSizes) {
  config().rpc_limits.message_bytes = 1 << 20;
  engine_options().trace_bytes = (1 << 20) + 1;
  StartDaemon();
  v1::StartTraceResponse started;
  ASSERT_TRUE(admin_->StartTrace(NewContext().get(), {}, &started).ok());
  v1::StopTraceResponse stopped;
  const grpc::Status status = admin_->StopTrace(NewContext().get(), {}, &stopped);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("1048577 bytes, one message may have 1048576"));
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

// A GPU that fell off the bus: rows must not be answered with it, the process ends and they run
// again.
TEST_F(AdminServiceTest, AFailureOfTheDeviceIsForWhoEndsTheProcess) {
  StartDaemon();
  observer_->OnDeviceFailure(absl::InternalError("cudaErrorIllegalAddress"));
  EXPECT_EQ(device_failure_.message(), "cudaErrorIllegalAddress");
}

}  // namespace
}  // namespace moelight
