// Goal: every row of every job reaches the engine and its answer the store, once, in order, through
// failures, cancels, a full engine and restarts.
#include "server/dispatcher.h"

#include <future>
#include <set>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include "engine/base/check.h"
#include "server/crash_marker.h"
#include "server/store/timestamps.h"
#include "tests/store/store_test_util.h"
#include "tests/testing/fake_engine.h"

namespace moelight {
namespace {

using v1::BatchJob;

class DispatcherTest : public ::testing::Test {
 protected:
  void Start(const FakeEngineOptions& engine = {}, int64_t max_rows = 64) {
    engine_ = std::make_unique<FakeEngine>(engine);
    dispatcher_ = Dispatcher::Start({max_rows}, store_->store(), *engine_, Logger::Null());
  }
  // As a process that ends: dispatcher, engine, store; then the store again.
  void Restart(bool crashed = false) {
    dispatcher_.reset();
    engine_.reset();
    store_.reset();
    if (crashed) {
      auto marker = CrashMarker::Install(folder_.path());
      (*marker)->Write();
    }
    store_ = OpenStore(folder_.path());
  }
  std::string SealedJob(const std::vector<std::string>& prompts,
                        const v1::CreateBatchJobRequest& request = {}) {
    const std::string id = store_->Create(request)->job_id();
    std::vector<AppendRow> rows;
    for (size_t i = 0; i < prompts.size(); ++i) {
      rows.push_back(MakeRow(static_cast<int64_t>(i)));
      rows.back().request.mutable_prompt()->set_text(prompts[i]);
    }
    CHECK(store_->Append(id, 0, std::move(rows)).ok());
    CHECK(store_->Seal(id).ok());
    return id;
  }
  // Results by row; checks that there is one for each of `num_rows`.
  std::vector<v1::BatchResult> Results(const std::string& id, int64_t num_rows) {
    std::vector<v1::BatchResult> by_row(static_cast<size_t>(num_rows));
    std::set<int64_t> seen;
    for (v1::BatchResult& result : store_->ReadAll(id)) {
      EXPECT_TRUE(seen.insert(result.row()).second);
      by_row[static_cast<size_t>(result.row())] = std::move(result);
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), num_rows);
    return by_row;
  }
  // Waits until the engine has been given `count` requests.
  void WaitForSubmissions(size_t count) {
    while (engine_->submitted_prompts().size() < count) std::this_thread::yield();
  }

  TempFolder folder_;
  std::unique_ptr<SyncStore> store_ = OpenStore(folder_.path());
  std::unique_ptr<FakeEngine> engine_;
  std::unique_ptr<Dispatcher> dispatcher_;
};

TEST_F(DispatcherTest, AnswersAllRowsInOrder) {
  Start();
  std::vector<std::string> prompts;
  for (int i = 0; i < 500; ++i) prompts.push_back(absl::StrCat("prompt ", i));
  const std::string id = SealedJob(prompts);
  ASSERT_TRUE(store_->WaitForState(id, BatchJob::STATE_SUCCEEDED));
  EXPECT_EQ(engine_->submitted_prompts(), prompts);
  const std::vector<v1::BatchResult> results = Results(id, 500);
  for (int i = 0; i < 500; ++i) {
    ASSERT_EQ(results[i].choices_size(), 1);
    EXPECT_EQ(results[i].choices(0).text(), "echo: " + prompts[i]);
    EXPECT_EQ(results[i].custom_id(), absl::StrCat("c", i));
    EXPECT_EQ(results[i].usage().prompt_tokens(), prompts[i].size());
  }
  EXPECT_EQ(store_->Get(id).num_succeeded(), 500);
}

TEST_F(DispatcherTest, ABadRowFailsAlone) {
  Start();
  const std::string id = SealedJob({"a", "fail: b", "reject: c", "", "e"});
  ASSERT_TRUE(store_->WaitForState(id, BatchJob::STATE_SUCCEEDED));
  const std::vector<v1::BatchResult> results = Results(id, 5);
  EXPECT_FALSE(results[0].has_error());
  EXPECT_EQ(results[1].error().code(), static_cast<int>(absl::StatusCode::kInternal));
  EXPECT_EQ(results[2].error().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_FALSE(results[4].has_error());
  EXPECT_GE(store_->Get(id).num_failed(), 2);
}

TEST_F(DispatcherTest, UnsetSamplingFieldsComeFromTheJob) {
  Start();
  v1::CreateBatchJobRequest request;
  request.mutable_job()->mutable_default_sampling()->set_max_tokens(5);
  request.mutable_job()->mutable_default_sampling()->set_temperature(0.5);
  const std::string id = store_->Create(request)->job_id();
  AppendRow row = MakeRow(0);
  row.request.mutable_sampling()->set_temperature(0.25);
  ASSERT_TRUE(store_->Append(id, 0, {row}).ok());
  ASSERT_TRUE(store_->Seal(id).ok());
  ASSERT_TRUE(store_->WaitForState(id, BatchJob::STATE_SUCCEEDED));
  const SamplingParams sampling = engine_->submitted_sampling().at(0);
  EXPECT_EQ(sampling.max_tokens, 5);
  EXPECT_EQ(sampling.temperature, 0.25f);
}

TEST_F(DispatcherTest, RequestsSayWhoseTheyAre) {
  engine_ = std::make_unique<FakeEngine>();
  dispatcher_ = Dispatcher::Start({64, ClientWeights::Parse("alice=7").value()}, store_->store(),
                                  *engine_, Logger::Null());
  v1::CreateBatchJobRequest request;
  request.mutable_job()->set_client("alice");
  request.mutable_job()->set_priority(-3);
  const std::string of_alice = SealedJob({"x"}, request);
  ASSERT_TRUE(store_->WaitForState(of_alice, BatchJob::STATE_SUCCEEDED));
  const std::string of_nobody = SealedJob({"y"});
  ASSERT_TRUE(store_->WaitForState(of_nobody, BatchJob::STATE_SUCCEEDED));
  const std::vector<RequestGroup> groups = engine_->submitted_groups();
  ASSERT_EQ(groups.size(), 2);
  EXPECT_EQ(groups[0].client, "alice");
  EXPECT_EQ(groups[0].client_weight, 7);
  EXPECT_EQ(groups[0].priority, -3);
  EXPECT_EQ(groups[0].job, of_alice);
  EXPECT_EQ(groups[1].client, "");
  EXPECT_EQ(groups[1].client_weight, 1);
  EXPECT_EQ(groups[1].priority, 0);
  EXPECT_EQ(groups[1].job, of_nobody);
}

TEST_F(DispatcherTest, AFullEngineIsWaitedFor) {
  Start({.delay = std::chrono::microseconds(200), .max_running = 2, .max_queued_requests = 3},
        /*max_rows=*/50);
  const std::string id = SealedJob(std::vector<std::string>(200, "x"));
  ASSERT_TRUE(store_->WaitForState(id, BatchJob::STATE_SUCCEEDED));
  Results(id, 200);
  EXPECT_LE(engine_->max_seen_running(), 2);
}

TEST_F(DispatcherTest, HoldsNoMoreRowsThanAllowed) {
  Start({.max_running = 100}, /*max_rows=*/5);
  engine_->SetPaused(true);
  const std::string id = SealedJob(std::vector<std::string>(20, "x"));
  WaitForSubmissions(5);
  EXPECT_LE(dispatcher_->num_rows_in_flight(), 5);
  EXPECT_EQ(engine_->submitted_prompts().size(), 5);
  engine_->SetPaused(false);
  ASSERT_TRUE(store_->WaitForState(id, BatchJob::STATE_SUCCEEDED));
  Results(id, 20);
}

TEST_F(DispatcherTest, CancelStopsTheRowsOfItsJobOnly) {
  Start({.max_running = 10}, 10);
  const std::string hanging = SealedJob(std::vector<std::string>(30, "hang: x"));
  const std::string other = SealedJob({"a", "b"});
  WaitForSubmissions(10);
  ASSERT_TRUE(store_->Cancel(hanging).ok());
  ASSERT_TRUE(store_->WaitForState(hanging, BatchJob::STATE_CANCELLED));
  ASSERT_TRUE(store_->WaitForState(other, BatchJob::STATE_SUCCEEDED));
  EXPECT_EQ(engine_->num_cancelled(), 10);
  for (const v1::BatchResult& result : Results(hanging, 30)) {
    EXPECT_EQ(result.error().code(), static_cast<int>(absl::StatusCode::kCancelled));
    EXPECT_EQ(result.custom_id(), absl::StrCat("c", result.row()));
  }
  EXPECT_EQ(store_->Get(hanging).num_cancelled(), 30);
  Results(other, 2);
}

// Rows in the engine are no exception: they end with the job, not when they would have been done.
TEST_F(DispatcherTest, ExpiryStopsRowsInTheEngineAtOnce) {
  Start({.max_running = 4}, 8);
  v1::CreateBatchJobRequest request;
  const absl::Time expiry = absl::Now() + absl::Milliseconds(400);
  *request.mutable_job()->mutable_expire_time() = FromMicros(absl::ToUnixMicros(expiry));
  const std::string id = SealedJob(std::vector<std::string>(20, "hang: x"), request);
  WaitForSubmissions(8);
  ASSERT_TRUE(store_->WaitForState(id, BatchJob::STATE_EXPIRED));
  EXPECT_GE(absl::Now(), expiry);
  EXPECT_LT(absl::Now(), expiry + absl::Seconds(2));
  EXPECT_EQ(engine_->num_cancelled(), 8);
  for (const v1::BatchResult& result : Results(id, 20)) {
    EXPECT_EQ(result.error().code(), static_cast<int>(absl::StatusCode::kDeadlineExceeded));
  }
}

TEST_F(DispatcherTest, CancelReachesRowsThatWaitForAFullEngine) {
  Start({.max_running = 1, .max_queued_requests = 1}, 10);
  const std::string id = SealedJob(std::vector<std::string>(10, "hang: x"));
  WaitForSubmissions(2);
  ASSERT_TRUE(store_->Cancel(id).ok());
  ASSERT_TRUE(store_->WaitForState(id, BatchJob::STATE_CANCELLED));
  Results(id, 10);
}

TEST_F(DispatcherTest, AStopLeavesUnfinishedRowsForTheNextStart) {
  Start({.delay = std::chrono::microseconds(300), .max_running = 4});
  std::vector<std::string> prompts;
  for (int i = 0; i < 300; ++i) prompts.push_back(absl::StrCat("prompt ", i));
  const std::string id = SealedJob(prompts);
  size_t num_submitted = 0;
  for (int restart = 0; restart < 5; ++restart) {
    WaitForSubmissions(20);
    const auto start = std::chrono::steady_clock::now();
    dispatcher_.reset();
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(4));
    num_submitted += engine_->submitted_prompts().size();
    Restart();
    Start({.delay = std::chrono::microseconds(300), .max_running = 4});
  }
  ASSERT_TRUE(store_->WaitForState(id, BatchJob::STATE_SUCCEEDED));
  const std::vector<v1::BatchResult> results = Results(id, 300);
  for (int i = 0; i < 300; ++i) EXPECT_EQ(results[i].choices(0).text(), "echo: " + prompts[i]);
  EXPECT_EQ(store_->Get(id).num_cancelled() + store_->Get(id).num_failed(), 0);
}

TEST_F(DispatcherTest, DrainLetsRowsFinishAndTakesNoNewOnes) {
  Start({.delay = std::chrono::milliseconds(20), .max_running = 4}, 4);
  const std::string id = SealedJob(std::vector<std::string>(100, "x"));
  WaitForSubmissions(4);
  std::promise<void> drained;
  dispatcher_->Drain([&drained]() { drained.set_value(); });
  ASSERT_EQ(drained.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
  EXPECT_EQ(store_->Get(id).num_succeeded(), engine_->submitted_prompts().size());
  EXPECT_LT(store_->Get(id).num_succeeded(), 100);
}

TEST_F(DispatcherTest, SuspectsRunApartFromOthers) {
  const std::string id = SealedJob(std::vector<std::string>(100, "x"));
  ASSERT_EQ(store_->Take(50).size(), 50);
  Restart(/*crashed=*/true);  // rows 0 to 49: one crash
  ASSERT_EQ(store_->Take(3).size(), 3);
  Restart(/*crashed=*/true);  // rows 0 to 2: two crashes
  Start({.max_running = 100}, 100);
  engine_->SetPaused(true);
  // Paused, the engine shows who is in flight together: row 0 alone.
  WaitForSubmissions(1);
  EXPECT_EQ(engine_->Stats().num_queued, 1);
  engine_->SetPaused(false);
  ASSERT_TRUE(store_->WaitForState(id, BatchJob::STATE_SUCCEEDED));
  Results(id, 100);
}

TEST_F(DispatcherTest, AfterOneCrashAtMost32SuspectsAreTogether) {
  const std::string id = SealedJob(std::vector<std::string>(100, "x"));
  ASSERT_EQ(store_->Take(50).size(), 50);
  Restart(/*crashed=*/true);
  Start({.max_running = 100}, 100);
  engine_->SetPaused(true);
  WaitForSubmissions(32);
  EXPECT_EQ(engine_->Stats().num_queued, 32);
  engine_->SetPaused(false);
  ASSERT_TRUE(store_->WaitForState(id, BatchJob::STATE_SUCCEEDED));
}

}  // namespace
}  // namespace moelight
