// Goal: over the wire, a client with a few rows does not wait for one with many, priorities and
// deadlines are honoured, and what cannot be kept is said when the job is sealed.
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/daemon_fixture.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

class JobFairnessTest : public DaemonTest {
 protected:
  // A job of `num_rows` equal rows, sealed.
  v1::BatchJob SealedJob(const v1::CreateBatchJobRequest& request, int num_rows,
                         const std::string& prompt = "x") {
    v1::BatchJob job;
    EXPECT_TRUE(Create(request, &job).ok());
    v1::AppendBatchRequestsResponse appended;
    EXPECT_TRUE(Append(job.job_id(), 0,
                       std::vector<v1::BatchRequest>(num_rows, TextRow("", prompt)), &appended)
                    .ok());
    EXPECT_TRUE(Seal(job.job_id(), &job).ok());
    return job;
  }
  v1::BatchJob SealedJob(const std::string& client, int num_rows, int32_t priority = 0) {
    v1::CreateBatchJobRequest request;
    request.mutable_job()->set_client(client);
    request.mutable_job()->set_priority(priority);
    return SealedJob(request, num_rows);
  }
  // Waits until it has ended.
  bool Succeeds(const std::string& job_id) {
    return Eventually([&]() { return Get(job_id).state() == v1::BatchJob::STATE_SUCCEEDED; });
  }
};

TEST_F(JobFairnessTest, AFewRowsDoNotWaitForAnotherClientsThousands) {
  engine_options().max_running = 8;
  engine_options().delay = std::chrono::milliseconds(2);
  config().rpc_limits.rows_in_flight = 40;
  StartDaemon();
  const std::string big = SealedJob("a", 2000).job_id();
  ASSERT_TRUE(Eventually([&]() { return Get(big).num_succeeded() > 0; }));
  const std::string small = SealedJob("b", 20).job_id();
  ASSERT_TRUE(Succeeds(small));
  EXPECT_LT(Get(big).num_succeeded(), 1000);
  ASSERT_TRUE(Succeeds(big));
}

TEST_F(JobFairnessTest, TheRowsOfAnUrgentJobGoFirst) {
  config().rpc_limits.rows_in_flight = 32;
  engine_options().max_running = 1;
  StartDaemon();
  engine().SetPaused(true);
  const std::string usual = SealedJob("a", 500).job_id();
  ASSERT_TRUE(Eventually([&]() { return engine().submitted_groups().size() == 32; }));
  const std::string urgent = SealedJob("a", 50, /*priority=*/1).job_id();
  engine().SetPaused(false);
  ASSERT_TRUE(Succeeds(usual));
  const std::vector<RequestGroup> groups = engine().submitted_groups();
  ASSERT_EQ(groups.size(), 550);
  for (size_t i = 0; i < groups.size(); ++i) {
    EXPECT_EQ(groups[i].job, i >= 32 && i < 82 ? urgent : usual) << i;
    EXPECT_EQ(groups[i].client, "a");
  }
}

TEST_F(JobFairnessTest, WeightsComeFromTheConfiguration) {
  config().client_weights = "a=3";
  config().rpc_limits.rows_in_flight = 40;
  StartDaemon();
  engine().SetPaused(true);
  // The second is sealed first and held back by its priority, so that both are there at once.
  SealedJob("hold", 40, /*priority=*/100);
  ASSERT_TRUE(Eventually([&]() { return engine().submitted_groups().size() == 40; }));
  SealedJob("a", 300);
  SealedJob("b", 300);
  engine().SetPaused(false);
  ASSERT_TRUE(Eventually([&]() { return engine().submitted_groups().size() >= 240; }));
  int64_t num_of_a = 0;
  const std::vector<RequestGroup> groups = engine().submitted_groups();
  for (size_t i = 40; i < 240; ++i) num_of_a += groups[i].client == "a" ? 1 : 0;
  EXPECT_NEAR(num_of_a, 150, 15);
  EXPECT_EQ(groups[40].client_weight, groups[40].client == "a" ? 3 : 1);
}

TEST_F(JobFairnessTest, InteractiveRequestsGoBeforeEveryJob) {
  StartDaemon();
  v1::GenerateRequest request;
  request.mutable_prompt()->set_text("now");
  const std::unique_ptr<grpc::ClientContext> context = NewContext();
  const auto reader = inference_->Generate(context.get(), request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
  const std::vector<RequestGroup> groups = engine().submitted_groups();
  ASSERT_EQ(groups.size(), 1);
  EXPECT_EQ(groups[0].priority, kInteractivePriority);
  EXPECT_EQ(groups[0].job, "");
}

TEST_F(JobFairnessTest, SharedPromptTokensAreReportedByRowAndJob) {
  engine_options().num_shared_prompt_tokens = 2;
  StartDaemon();
  v1::CreateBatchJobRequest request;
  const std::string job_id = SealedJob(request, 3, "abc").job_id();
  ASSERT_TRUE(Succeeds(job_id));
  EXPECT_EQ(Get(job_id).shared_prompt_tokens(), 6);
  EXPECT_EQ(Get(job_id).prompt_tokens(), 9);
  for (const v1::BatchResult& result : Results(job_id)) {
    EXPECT_EQ(result.usage().shared_prompt_tokens(), 2);
  }
}

TEST_F(JobFairnessTest, AJobThatCannotBeDoneInTimeSaysSoAndRuns) {
  PlanPrediction prediction;
  prediction.workload = {
      .mean_prompt_tokens = 100, .max_prompt_tokens = 100, .num_output_tokens = 100};
  prediction.tokens_per_s = 1;  // generated; as many of prompts besides
  engine_options().prediction = prediction;
  StartDaemon();
  v1::CreateBatchJobRequest request;
  request.mutable_job()->mutable_default_sampling()->set_max_tokens(9);
  request.mutable_job()->mutable_expire_time()->set_seconds(absl::ToUnixSeconds(absl::Now()) + 30);
  // 10 rows of 1 and 9 tokens at 2 tokens a second.
  const v1::BatchJob late = SealedJob(request, 10);
  EXPECT_TRUE(late.deadline_unreachable());
  EXPECT_NEAR(late.estimated_end_time().seconds(), absl::ToUnixSeconds(absl::Now()) + 50, 5);
  ASSERT_TRUE(Succeeds(late.job_id()));
  EXPECT_TRUE(Get(late.job_id()).deadline_unreachable());
  const v1::BatchJob in_time = SealedJob(request, 2);
  EXPECT_TRUE(in_time.has_estimated_end_time());
  EXPECT_FALSE(in_time.deadline_unreachable());
}

TEST_F(JobFairnessTest, WithoutAPredictionTheMeasuredRateDecides) {
  StartDaemon();
  v1::CreateBatchJobRequest request;
  request.mutable_job()->mutable_default_sampling()->set_max_tokens(9);
  const v1::BatchJob first = SealedJob(request, 10);
  EXPECT_FALSE(first.has_estimated_end_time());
  ASSERT_TRUE(Succeeds(first.job_id()));  // or its rows are still to be computed
  observer_->OnStep({.num_decode_tokens = 30, .num_prefill_tokens = 10, .step_us = 20e6});
  const v1::BatchJob job = SealedJob(request, 10);
  EXPECT_NEAR(job.estimated_end_time().seconds(), absl::ToUnixSeconds(absl::Now()) + 50, 5);
}

TEST_F(JobFairnessTest, ClientAndPriorityAreCheckedByField) {
  StartDaemon();
  const struct {
    std::string client;
    int32_t priority;
    std::string message;  // empty: good
  } cases[] = {
      {std::string(64, 'x'), 100, ""},
      {"", -100, ""},
      {std::string(65, 'x'), 0, "job.client: 65 bytes, limit 64"},
      {"a", 101, "job.priority: is 101, must be -100 to 100"},
      {"a", -101, "job.priority: is -101, must be -100 to 100"},
  };
  for (const auto& row : cases) {
    v1::CreateBatchJobRequest request;
    request.mutable_job()->set_client(row.client);
    request.mutable_job()->set_priority(row.priority);
    // What only the server writes is not taken from a client.
    request.mutable_job()->set_deadline_unreachable(true);
    request.mutable_job()->set_shared_prompt_tokens(5);
    v1::BatchJob job;
    const grpc::Status status = Create(request, &job);
    EXPECT_EQ(status.error_message(), row.message);
    if (status.ok()) {
      EXPECT_EQ(job.client(), row.client);
      EXPECT_EQ(job.priority(), row.priority);
      EXPECT_FALSE(job.deadline_unreachable());
      EXPECT_EQ(job.shared_prompt_tokens(), 0);
    } else {
      EXPECT_THAT(Details(status).DebugString(), HasSubstr("google.rpc.BadRequest"));
    }
  }
}

}  // namespace
}  // namespace moelight
