// Goal: results come in the order of completion, from any cursor, in pages of any size.
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/check.h"
#include "server/sqlite.h"
#include "tests/store/store_test_util.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

class JobResultsTest : public ::testing::Test {
 protected:
  // Changes the database from outside while the store is closed.
  void Damage(const char* sql) {
    store_.reset();
    auto database = Database::Open({folder_.path() + "/jobs.db", false, ""});
    CHECK(database.ok());
    const absl::Status done = (*database)->Execute(sql);
    CHECK(done.ok()) << done;
    database->reset();
    store_ = OpenStore(folder_.path());
  }

  TempFolder folder_;
  std::unique_ptr<SyncStore> store_ = OpenStore(folder_.path());
};

TEST_F(JobResultsTest, OrderOfCompletionFromEveryCursor) {
  const std::string id = store_->SealedJob(6);
  ASSERT_EQ(store_->Take(6).size(), 6);
  const std::vector<int64_t> order = {4, 0, 5, 2, 1, 3};
  for (size_t done = 0; done < order.size(); ++done) {
    const auto page = store_->Read(id, static_cast<int64_t>(done));
    ASSERT_TRUE(page.ok());
    EXPECT_TRUE(page->results.empty());
    EXPECT_FALSE(page->job_ended);
    EXPECT_EQ(page->next_cursor, done);
    ASSERT_TRUE(store_->Record(id, MakeResult(order[done])).ok());
  }
  for (int64_t cursor = 0; cursor <= 6; ++cursor) {
    const auto page = store_->Read(id, cursor);
    ASSERT_TRUE(page.ok());
    ASSERT_EQ(page->results.size(), 6 - cursor);
    for (size_t i = 0; i < page->results.size(); ++i) {
      const int64_t row = order[cursor + i];
      EXPECT_EQ(page->results[i].SerializeAsString(), MakeResult(row).SerializeAsString());
    }
    EXPECT_EQ(page->next_cursor, 6);
    EXPECT_TRUE(page->job_ended);
  }
  for (const int64_t cursor : {int64_t{-1}, int64_t{7}, int64_t{1} << 40}) {
    EXPECT_EQ(store_->Read(id, cursor).status().code(), absl::StatusCode::kOutOfRange);
  }
  EXPECT_EQ(store_->Read("job-none", 0).status().code(), absl::StatusCode::kNotFound);
}

// Ranges that one record stands for are cut by pages and cursors like any other results.
TEST_F(JobResultsTest, PagesOfAnySizeGiveTheSame) {
  const std::string id = store_->CreateJob();
  std::vector<AppendRow> rows = MakeRows(0, 40);
  rows[20] = MakeRefusedRow(20);
  ASSERT_TRUE(store_->Append(id, 0, rows).ok());
  ASSERT_TRUE(store_->Seal(id).ok());
  ASSERT_EQ(store_->Take(10).size(), 10);
  for (int64_t row = 0; row < 10; ++row) ASSERT_TRUE(store_->Record(id, MakeResult(row)).ok());
  ASSERT_EQ(store_->Cancel(id)->state(), v1::BatchJob::STATE_CANCELLED);

  const std::vector<v1::BatchResult> all = store_->ReadAll(id);
  ASSERT_EQ(all.size(), 40);
  for (const int64_t page_bytes : {0, 1, 30, 100, 170, 1000, 1 << 20}) {
    const auto pages = store_->ReadAll(id, page_bytes);
    ASSERT_EQ(pages.size(), all.size());
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(pages[i].SerializeAsString(), all[i].SerializeAsString()) << i;
    }
  }
  for (int64_t cursor = 0; cursor < 40; ++cursor) {
    const auto page = store_->Read(id, cursor, 1);
    ASSERT_EQ(page->results.size(), 1);
    EXPECT_EQ(page->results[0].row(), all[cursor].row());
  }
}

TEST_F(JobResultsTest, APageStaysBelowItsBytes) {
  const std::string id = store_->SealedJob(50);
  ASSERT_EQ(store_->Take(50).size(), 50);
  for (int64_t row = 0; row < 50; ++row) ASSERT_TRUE(store_->Record(id, MakeResult(row)).ok());
  const auto page = store_->Read(id, 0, 200);
  int64_t bytes = 0;
  for (const v1::BatchResult& result : page->results) bytes += result.ByteSizeLong();
  EXPECT_LE(bytes, 200);
  EXPECT_GE(page->results.size(), 2);
}

TEST_F(JobResultsTest, ADamagedResultIsDataLossNamingJobAndRow) {
  const std::string id = store_->SealedJob(3);
  ASSERT_EQ(store_->Take(3).size(), 3);
  for (int64_t row = 0; row < 3; ++row) ASSERT_TRUE(store_->Record(id, MakeResult(row)).ok());
  Damage(
      "UPDATE results SET payload = CAST('x' || substr(payload, 2) AS BLOB) WHERE first_row = 1");
  const absl::Status read = store_->Read(id, 0).status();
  EXPECT_EQ(read.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(read.message()), HasSubstr(absl::StrCat(id, " row 1")));
  EXPECT_EQ(store_->Read(id, 2)->results.size(), 1) << "the neighbours stay readable";
}

TEST_F(JobResultsTest, ADamagedRowComesWithItsErrorAndHurtsNoOther) {
  const std::string id = store_->SealedJob(3);
  Damage("UPDATE row_chunks SET payload = CAST('x' || substr(payload, 2) AS BLOB)");
  const std::vector<PendingRow> rows = store_->Take(3);
  ASSERT_EQ(rows.size(), 3);
  EXPECT_EQ(rows[0].status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(rows[0].status.message()), HasSubstr(absl::StrCat(id, " row 0")));
  EXPECT_TRUE(rows[1].status.ok());
  EXPECT_TRUE(rows[2].status.ok());
}

TEST_F(JobResultsTest, ADamagedIndexNeverGivesARefusedRowASecondRecord) {
  const std::string a = store_->CreateJob();
  const std::string b = store_->CreateJob();
  for (const std::string& id : {a, b}) {
    ASSERT_TRUE(store_->Append(id, 0, {MakeRow(0), MakeRefusedRow(1), MakeRow(2)}).ok());
    ASSERT_TRUE(store_->Seal(id).ok());
  }
  Damage("UPDATE row_chunks SET row_index = CAST('x' || substr(row_index, 2) AS BLOB)");
  ASSERT_TRUE(store_->Cancel(b).ok());
  // The refused row takes the place of another until its record is found.
  std::vector<PendingRow> rows = store_->Take(10);
  ASSERT_EQ(rows.size(), 1);
  rows.push_back(store_->Take(10).at(0));
  for (const PendingRow& row : rows) {
    EXPECT_EQ(row.status.code(), absl::StatusCode::kDataLoss);
    EXPECT_TRUE(store_->Record(a, MakeError(row.row, absl::StatusCode::kDataLoss)).ok());
  }
  for (const std::string& id : {a, b}) {
    EXPECT_TRUE(store_->WaitForState(
        id, id == a ? v1::BatchJob::STATE_SUCCEEDED : v1::BatchJob::STATE_CANCELLED));
    EXPECT_EQ(store_->ReadAll(id).size(), 3);
  }
}

TEST_F(JobResultsTest, AJobWithDamagedSettingsFailsAsAWhole) {
  v1::CreateBatchJobRequest request;
  request.mutable_job()->set_display_name("name");
  const std::string id = store_->Create(request)->job_id();
  const std::string other = store_->SealedJob(1);
  Damage("UPDATE jobs SET spec = x'00' WHERE serial = 1");
  EXPECT_EQ(store_->Get(id).state(), v1::BatchJob::STATE_FAILED);
  EXPECT_THAT(store_->Get(id).error().message(), HasSubstr(id));
  EXPECT_EQ(store_->Take(10).size(), 1);
  EXPECT_TRUE(store_->Delete(id).ok());
  EXPECT_EQ(store_->Get(other).state(), v1::BatchJob::STATE_RUNNING);
}

}  // namespace
}  // namespace moelight
