// Goal: cancelled, expired and deleted jobs end in bounded pieces with one record for every row.
#include <atomic>
#include <set>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include "engine/base/check.h"
#include "server/sqlite.h"
#include "server/store/timestamps.h"
#include "tests/store/store_test_util.h"

namespace moelight {
namespace {

using v1::BatchJob;

class JobEndTest : public ::testing::Test {
 protected:
  // Every row has exactly one record; returns how many have error code `code`.
  int64_t CountRecords(const std::string& id, absl::StatusCode code) {
    std::set<int64_t> seen;
    int64_t count = 0;
    for (const v1::BatchResult& result : store_->ReadAll(id)) {
      EXPECT_TRUE(seen.insert(result.row()).second) << "second record of row " << result.row();
      EXPECT_EQ(result.custom_id(), absl::StrCat("c", result.row()));
      if (result.error().code() == static_cast<int>(code)) ++count;
    }
    const BatchJob job = store_->Get(id);
    EXPECT_EQ(static_cast<int64_t>(seen.size()), job.num_rows());
    EXPECT_EQ(job.num_succeeded() + job.num_failed() + job.num_cancelled(), job.num_rows());
    return count;
  }

  // A job of `num_rows` rows, every tenth refused, in as many chunks as calls: ten rows a call.
  std::string JobOfManyChunks(int64_t num_rows) {
    const std::string id = store_->CreateJob();
    for (int64_t first = 0; first < num_rows; first += 10) {
      std::vector<AppendRow> rows = MakeRows(first, 10);
      rows[3] = MakeRefusedRow(first + 3);
      store_->store().Append(id, first, std::move(rows),
                             [](const auto& outcome) { CHECK(outcome.ok()) << outcome.status(); });
    }
    CHECK(store_->Append(id, num_rows, {}).ok());  // after all of them
    return id;
  }

  TempFolder folder_;
  std::unique_ptr<SyncStore> store_ = OpenStore(folder_.path());
};

TEST_F(JobEndTest, CancelWithNothingInFlightEndsAtOnce) {
  for (const bool sealed : {false, true}) {
    const std::string id = store_->CreateJob();
    ASSERT_TRUE(store_->Append(id, 0, MakeRows(0, 500)).ok());
    if (sealed) {
      ASSERT_TRUE(store_->Seal(id).ok());
    }
    EXPECT_EQ(store_->Cancel(id)->state(), BatchJob::STATE_CANCELLED);
    EXPECT_EQ(store_->Cancel(id)->state(), BatchJob::STATE_CANCELLED);
    EXPECT_EQ(CountRecords(id, absl::StatusCode::kCancelled), 500);
    EXPECT_EQ(store_->Get(id).num_cancelled(), 500);
  }
}

TEST_F(JobEndTest, CancelWaitsForRowsInFlightAndKeepsTheirAnswers) {
  const std::string id = store_->SealedJob(10);
  ASSERT_EQ(store_->Take(4).size(), 4);
  ASSERT_TRUE(store_->Record(id, MakeResult(0)).ok());
  EXPECT_EQ(store_->Cancel(id)->state(), BatchJob::STATE_CANCELLING);
  EXPECT_EQ(store_->store().EndingJobs(), std::vector<std::string>{id});
  ASSERT_TRUE(store_->Record(id, MakeResult(1)).ok()) << "it was done before the cancel arrived";
  ASSERT_TRUE(store_->Record(id, MakeError(2, absl::StatusCode::kCancelled)).ok());
  EXPECT_EQ(store_->Get(id).state(), BatchJob::STATE_CANCELLING);
  ASSERT_TRUE(store_->Record(id, MakeError(3, absl::StatusCode::kInternal)).ok());
  const BatchJob job = store_->Get(id);
  EXPECT_EQ(job.state(), BatchJob::STATE_CANCELLED);
  EXPECT_EQ(job.num_succeeded(), 2);
  EXPECT_EQ(job.num_failed(), 1);
  EXPECT_EQ(job.num_cancelled(), 7);
  EXPECT_EQ(CountRecords(id, absl::StatusCode::kCancelled), 7);
  EXPECT_TRUE(store_->store().EndingJobs().empty());
}

// Refused rows between the others are the hard case: every run of rows needs a record of its own.
TEST_F(JobEndTest, ABigCancelGoesInPiecesWhileAppendsOfAnotherGoOn) {
  constexpr int64_t kRows = 20'000;
  const std::string big = JobOfManyChunks(kRows);
  const std::string other = store_->CreateJob();
  EXPECT_EQ(store_->Cancel(big)->state(), BatchJob::STATE_CANCELLING);
  int64_t row = 0;
  for (; store_->Get(big).state() != BatchJob::STATE_CANCELLED; ++row) {
    ASSERT_TRUE(store_->Append(other, row, {MakeRow(row)}).ok());
    ASSERT_LT(row, 100'000);
  }
  EXPECT_GE(row, 2);
  EXPECT_EQ(CountRecords(big, absl::StatusCode::kCancelled), kRows - kRows / 10);
  EXPECT_EQ(store_->Get(big).num_failed(), kRows / 10);
}

TEST_F(JobEndTest, ABigCancelGoesOnAfterARestart) {
  const std::string id = JobOfManyChunks(20'000);
  ASSERT_EQ(store_->Cancel(id)->state(), BatchJob::STATE_CANCELLING);
  store_.reset();
  store_ = OpenStore(folder_.path());
  ASSERT_TRUE(store_->WaitForState(id, BatchJob::STATE_CANCELLED));
  CountRecords(id, absl::StatusCode::kCancelled);
}

TEST_F(JobEndTest, ExpiryEndsAJobInAnyOpenState) {
  v1::CreateBatchJobRequest request;
  *request.mutable_job()->mutable_expire_time() =
      FromMicros(ToMicros(CurrentTimestamp()) + 2'000'000);
  const std::string accepting = store_->Create(request)->job_id();
  ASSERT_TRUE(store_->Append(accepting, 0, MakeRows(0, 3)).ok());
  const std::string running = store_->Create(request)->job_id();
  ASSERT_TRUE(store_->Append(running, 0, MakeRows(0, 3)).ok());
  ASSERT_TRUE(store_->Seal(running).ok());
  ASSERT_EQ(store_->Take(1).size(), 1);
  ASSERT_TRUE(store_->WaitForState(accepting, BatchJob::STATE_EXPIRED));
  ASSERT_TRUE(store_->WaitForState(running, BatchJob::STATE_CANCELLING));
  // The engine says "cancelled"; the client reads why.
  ASSERT_TRUE(store_->Record(running, MakeError(0, absl::StatusCode::kCancelled)).ok());
  EXPECT_EQ(store_->Get(running).state(), BatchJob::STATE_EXPIRED);
  for (const std::string& id : {accepting, running}) {
    EXPECT_EQ(CountRecords(id, absl::StatusCode::kDeadlineExceeded), 3);
  }
}

TEST_F(JobEndTest, AJobThatExpiredWhileTheServerWasDownEndsAfterTheStart) {
  v1::CreateBatchJobRequest request;
  *request.mutable_job()->mutable_expire_time() =
      FromMicros(ToMicros(CurrentTimestamp()) + 150'000);
  const std::string id = store_->Create(request)->job_id();
  store_.reset();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  store_ = OpenStore(folder_.path());
  EXPECT_TRUE(store_->WaitForState(id, BatchJob::STATE_EXPIRED));
}

TEST_F(JobEndTest, DeletedJobsAreGoneAtOnceAndTheirRowsSoon) {
  const std::string id = store_->CreateJob();
  ASSERT_TRUE(store_->Append(id, 0, MakeRows(0, 20'000, 200)).ok());
  const std::string kept = store_->SealedJob(5);
  ASSERT_TRUE(store_->Cancel(id).ok());
  std::atomic<int> calls = 0;
  store_->store().Subscribe(id, [&calls]() { ++calls; });
  ASSERT_TRUE(store_->Delete(id).ok());
  EXPECT_EQ(store_->store().Get(id).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->Delete(id).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->Read(id, 0).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->store().List({})->jobs_size(), 1);
  EXPECT_GE(calls, 1);
  // Half of the purge happens in the next process.
  store_.reset();
  store_ = OpenStore(folder_.path());
  EXPECT_EQ(store_->store().Get(id).status().code(), absl::StatusCode::kNotFound);
  auto reader = Database::Open({folder_.path() + "/jobs.db", true, ""});
  ASSERT_TRUE(reader.ok());
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  int64_t num_jobs = 2;
  while (num_jobs > 1 && std::chrono::steady_clock::now() < deadline) {
    const auto count = (*reader)->QueryInt("SELECT count(*) FROM jobs");
    ASSERT_TRUE(count.ok()) << count.status();
    num_jobs = *count;
  }
  EXPECT_EQ(num_jobs, 1);
  EXPECT_EQ(*(*reader)->QueryInt("SELECT count(*) FROM results"), 0);
  EXPECT_EQ(*(*reader)->QueryInt("SELECT sum(num_rows) FROM row_chunks"), 5);
  EXPECT_EQ(store_->Take(10).size(), 5);
}

TEST_F(JobEndTest, RetentionRemovesEndedJobsOnly) {
  store_.reset();
  store_ = OpenStore(folder_.path(), [](JobStoreOptions& o) { o.retention_seconds = 1; });
  const std::string ended = store_->CreateJob();
  const std::string open = store_->CreateJob();
  std::promise<void> gone;
  std::once_flag once;
  ASSERT_TRUE(store_->Cancel(ended).ok());
  const auto id = store_->store().Subscribe(ended, [&]() {
    if (!store_->store().Get(ended).ok()) std::call_once(once, [&gone]() { gone.set_value(); });
  });
  EXPECT_EQ(gone.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
  store_->store().Unsubscribe(id);
  EXPECT_EQ(store_->Get(open).state(), BatchJob::STATE_ACCEPTING);
}

}  // namespace
}  // namespace moelight
