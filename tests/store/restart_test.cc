// Goal: whatever step a job had reached, a restart goes on from there; crashes are counted against
// the rows that were in flight, kills are not.
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/check.h"
#include "server/crash_marker.h"
#include "server/sqlite.h"
#include "tests/store/store_test_util.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;
using v1::BatchJob;

class RestartTest : public ::testing::Test {
 protected:
  void Reopen(bool crashed = false) {
    store_.reset();
    if (crashed) {
      auto marker = CrashMarker::Install(folder_.path());
      CHECK(marker.ok());
      (*marker)->Write();
    }
    store_ = OpenStore(folder_.path());
  }

  TempFolder folder_;
  std::unique_ptr<SyncStore> store_ = OpenStore(folder_.path());
};

TEST_F(RestartTest, AtEveryStepOfAJob) {
  v1::CreateBatchJobRequest request;
  request.mutable_job()->set_display_name("name");
  request.mutable_job()->mutable_default_sampling()->set_temperature(0.5);
  const std::string id = store_->Create(request)->job_id();
  const auto expect_same = [&]() {
    const std::string before = store_->Get(id).SerializeAsString();
    const JobStore::Levels levels = store_->store().levels();
    Reopen();
    EXPECT_EQ(store_->Get(id).SerializeAsString(), before);
    EXPECT_EQ(store_->store().levels().queued_rows, levels.queued_rows);
    EXPECT_EQ(store_->store().levels().queued_tokens, levels.queued_tokens);
  };
  expect_same();
  ASSERT_TRUE(store_->Append(id, 0, MakeRows(0, 3)).ok());
  expect_same();
  ASSERT_TRUE(store_->Append(id, 3, MakeRows(3, 3)).ok());
  ASSERT_TRUE(store_->Seal(id).ok());
  expect_same();
  ASSERT_EQ(store_->Take(3).size(), 3);
  expect_same();
  // Rows that were in flight come first, then the others, each once.
  std::vector<PendingRow> rows = store_->Take(4);
  ASSERT_EQ(rows.size(), 4);
  for (int64_t row = 0; row < 4; ++row) {
    EXPECT_EQ(rows[row].row, row);
    EXPECT_EQ(rows[row].crashes, 0) << "closing is no crash";
  }
  ASSERT_TRUE(store_->Record(id, MakeResult(1)).ok());
  ASSERT_TRUE(store_->Record(id, MakeResult(3)).ok());
  expect_same();
  rows = store_->Take(10);
  ASSERT_EQ(rows.size(), 4);
  const int64_t left[] = {0, 2, 4, 5};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(rows[i].row, left[i]);
  for (const int64_t row : left) ASSERT_TRUE(store_->Record(id, MakeResult(row)).ok());
  EXPECT_EQ(store_->Get(id).state(), BatchJob::STATE_SUCCEEDED);
  expect_same();
  EXPECT_EQ(store_->ReadAll(id).size(), 6);
  EXPECT_EQ(store_->ReadAll(id)[0].row(), 1);
  EXPECT_TRUE(store_->Take(10).empty());
}

TEST_F(RestartTest, RequeuedRowsOfAllJobsComeFirst) {
  const std::string a = store_->SealedJob(3);
  const std::string b = store_->SealedJob(3);
  ASSERT_EQ(store_->Take(4).size(), 4);
  Reopen();
  const std::vector<PendingRow> rows = store_->Take(4);
  ASSERT_EQ(rows.size(), 4);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(rows[i].job_id, a);
  EXPECT_EQ(rows[3].job_id, b);
  EXPECT_EQ(rows[3].row, 0);
}

TEST_F(RestartTest, CancelEndsRowsThatWereInFlightInAnEarlierProcess) {
  const std::string id = store_->SealedJob(5);
  ASSERT_EQ(store_->Take(2).size(), 2);
  Reopen();
  EXPECT_EQ(store_->Cancel(id)->state(), BatchJob::STATE_CANCELLED);
  EXPECT_EQ(store_->Get(id).num_cancelled(), 5);
  EXPECT_EQ(store_->ReadAll(id).size(), 5);
}

TEST_F(RestartTest, ACancelInProgressEndsAtTheStart) {
  const std::string id = store_->SealedJob(5);
  ASSERT_EQ(store_->Take(2).size(), 2);
  ASSERT_EQ(store_->Cancel(id)->state(), BatchJob::STATE_CANCELLING);
  Reopen();
  EXPECT_EQ(store_->Get(id).state(), BatchJob::STATE_CANCELLED);
  EXPECT_EQ(store_->ReadAll(id).size(), 5);
  EXPECT_EQ(store_->store().levels().queued_rows, 0);
  EXPECT_EQ(store_->store().levels().queued_tokens, 0);
}

TEST_F(RestartTest, AtTheThirdCrashOnlyRowsThatWereThereEachTimeAreQuarantined) {
  const std::string id = store_->SealedJob(4);
  ASSERT_EQ(store_->Take(2).size(), 2);
  Reopen(/*crashed=*/true);
  EXPECT_EQ(FindCrashMarker(folder_.path()).value(), 0) << "the marker is used up";
  std::vector<PendingRow> rows = *store_->NextPending(10);
  ASSERT_EQ(rows.size(), 4);
  EXPECT_EQ(rows[0].crashes, 1);
  EXPECT_EQ(rows[1].crashes, 1);
  EXPECT_EQ(rows[2].crashes, 0);
  // Only row 0 is handed out before the next crash.
  ASSERT_EQ(store_->Take(1).size(), 1);
  Reopen(true);
  Reopen(false);
  rows = *store_->NextPending(10);
  EXPECT_EQ(rows[0].crashes, 2);
  EXPECT_EQ(rows[1].crashes, 1);
  ASSERT_EQ(store_->Take(1).size(), 1);
  Reopen(true);
  rows = *store_->NextPending(10);
  ASSERT_EQ(rows.size(), 3);
  EXPECT_EQ(rows[0].row, 1);
  const std::vector<v1::BatchResult> results = store_->ReadAll(id);
  ASSERT_EQ(results.size(), 1);
  EXPECT_EQ(results[0].row(), 0);
  EXPECT_EQ(results[0].custom_id(), "c0");
  EXPECT_EQ(results[0].error().code(), static_cast<int>(absl::StatusCode::kInternal));
  EXPECT_THAT(results[0].error().message(), HasSubstr("3 crashes"));
  EXPECT_THAT(results[0].error().details(0).value(), HasSubstr("ROW_QUARANTINED"));
  EXPECT_EQ(store_->Get(id).num_failed(), 1);
  EXPECT_EQ(store_->store().levels().queued_rows, 3);
}

TEST_F(RestartTest, AMarkerThatCouldNotBeRemovedCountsOnce) {
  const std::string id = store_->SealedJob(1);
  ASSERT_EQ(store_->Take(1).size(), 1);
  store_.reset();
  {
    auto marker = CrashMarker::Install(folder_.path());
    (*marker)->Write();
  }
  const std::string saved = folder_.path() + "/saved";
  std::filesystem::rename(folder_.path() + "/crashed", saved);
  std::filesystem::copy_file(saved, folder_.path() + "/crashed");
  const auto written = std::filesystem::last_write_time(saved);
  for (int i = 0; i < 3; ++i) {
    std::filesystem::copy_file(saved, folder_.path() + "/crashed",
                               std::filesystem::copy_options::overwrite_existing);
    std::filesystem::last_write_time(folder_.path() + "/crashed", written);
    store_ = OpenStore(folder_.path());
    EXPECT_EQ(store_->NextPending(1)->at(0).crashes, 1) << i;
    ASSERT_EQ(store_->Take(1).size(), 1);
    store_.reset();
  }
  store_ = OpenStore(folder_.path());
  EXPECT_EQ(store_->Get(id).state(), BatchJob::STATE_RUNNING);
}

TEST_F(RestartTest, ASecondStoreOnTheFolderIsRefused) {
  JobStoreOptions options;
  options.path = folder_.path();
  const absl::Status second = JobStore::Open(options, Logger::Null()).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.message()), HasSubstr("in use by process"));
}

TEST_F(RestartTest, AFolderThatCannotBeMadeIsNamed) {
  const std::string file = folder_.path() + "/file";
  std::ofstream(file) << "x";
  JobStoreOptions options;
  options.path = file + "/store";
  const absl::Status status = JobStore::Open(options, Logger::Null()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr(options.path));
}

// No scan: the time to open does not grow with the rows.
TEST_F(RestartTest, OpensQuicklyWithManyRowsQueued) {
  for (int i = 0; i < 4; ++i) {
    const std::string id = store_->CreateJob();
    for (int64_t first = 0; first < 50'000; first += 10'000) {
      ASSERT_TRUE(store_->Append(id, first, MakeRows(first, 10'000, 100)).ok());
    }
    ASSERT_TRUE(store_->Seal(id).ok());
  }
  store_->Take(1000);
  store_.reset();
  const std::clock_t begin = std::clock();  // a busy disk is no fault
  store_ = OpenStore(folder_.path());
  EXPECT_EQ(store_->Take(1000).size(), 1000);
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 1);
}

}  // namespace
}  // namespace moelight
