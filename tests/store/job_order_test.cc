// Goal: the store hands out rows by priority, by the clients' shares and by deadline, whatever is
// in flight, and says at the seal when a job will be done.
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/base/check.h"
#include "server/store/timestamps.h"
#include "tests/store/store_test_util.h"

namespace moelight {
namespace {

using v1::BatchJob;

class JobOrderTest : public ::testing::Test {
 protected:
  struct Spec {
    std::string client;
    int32_t priority = 0;
    int64_t expires_in_s = 0;  // 0: never
  };

  void Open(absl::string_view weights) {
    store_.reset();
    store_ = OpenStore(folder_.path(), [weights](JobStoreOptions& options) {
      options.client_weights = ClientWeights::Parse(weights).value();
    });
  }
  std::string AddJob(const Spec& spec, int64_t num_rows, double tokens_per_s = 0) {
    v1::CreateBatchJobRequest request;
    BatchJob& job = *request.mutable_job();
    job.set_client(spec.client);
    job.set_priority(spec.priority);
    if (spec.expires_in_s > 0) {
      *job.mutable_expire_time() =
          FromMicros(ToMicros(CurrentTimestamp()) + spec.expires_in_s * 1'000'000);
    }
    const std::string id = store_->Create(request)->job_id();
    std::vector<AppendRow> rows = MakeRows(0, num_rows);
    for (AppendRow& row : rows) row.estimated_output_tokens = 40;  // and 10 of its prompt
    CHECK(store_->Append(id, 0, std::move(rows)).ok());
    CHECK(store_->Seal(id, num_rows, tokens_per_s).ok());
    return id;
  }
  // How many rows of each job the next `max_rows` are.
  std::map<std::string, int64_t> TakeByJob(int64_t max_rows) {
    std::map<std::string, int64_t> rows;
    for (const PendingRow& row : store_->Take(max_rows)) {
      EXPECT_EQ(row.row, next_row_[row.job_id]++) << "rows of a job come in order";
      ++rows[row.job_id];
    }
    return rows;
  }
  double SecondsToEnd(const std::string& id) {
    const BatchJob job = store_->Get(id);
    EXPECT_TRUE(job.has_estimated_end_time());
    return absl::ToDoubleSeconds(ToAbslTime(job.estimated_end_time()) - absl::Now());
  }

  TempFolder folder_;
  std::unique_ptr<SyncStore> store_ = OpenStore(folder_.path());
  std::map<std::string, int64_t> next_row_;
};

using ByJob = std::map<std::string, int64_t>;

TEST_F(JobOrderTest, AClientWithManyRowsLeavesRoomForOthers) {
  const std::string big = AddJob({"a"}, 2000);
  EXPECT_EQ(TakeByJob(100), (ByJob{{big, 100}})) << "what nobody else wants, it gets";
  const std::string small = AddJob({"b"}, 20);
  EXPECT_EQ(TakeByJob(50), (ByJob{{big, 30}, {small, 20}}));
  const std::string later = AddJob({"b"}, 500);
  // a holds 130, b 20.
  EXPECT_EQ(TakeByJob(100), (ByJob{{later, 100}}));
  EXPECT_EQ(TakeByJob(30), (ByJob{{big, 10}, {later, 20}}));
}

TEST_F(JobOrderTest, PlacesFollowWeightsAndWhatHasEnded) {
  Open("a=3");
  const std::string a = AddJob({"a"}, 1000);
  const std::string b = AddJob({"b"}, 1000);
  EXPECT_EQ(TakeByJob(40), (ByJob{{a, 30}, {b, 10}}));
  for (int64_t row = 0; row < 12; ++row) ASSERT_TRUE(store_->Record(a, MakeResult(row)).ok());
  EXPECT_EQ(TakeByJob(12), (ByJob{{a, 12}}));
}

TEST_F(JobOrderTest, PriorityThenDeadlineThenAge) {
  const std::string old = AddJob({"a"}, 5);
  const std::string late = AddJob({"a", 0, 7200}, 5);
  const std::string soon = AddJob({"a", 0, 3600}, 5);
  const std::string urgent = AddJob({"b", 5}, 5);
  const std::string idle = AddJob({"c", -5}, 5);
  EXPECT_EQ(TakeByJob(7), (ByJob{{urgent, 5}, {soon, 2}}));
  EXPECT_EQ(TakeByJob(9), (ByJob{{soon, 3}, {late, 5}, {old, 1}}));
  EXPECT_EQ(TakeByJob(100), (ByJob{{old, 4}, {idle, 5}}));
  EXPECT_EQ(TakeByJob(100), ByJob());
}

TEST_F(JobOrderTest, RefusedRowsTakeNoPlaces) {
  const std::string id = store_->CreateJob();
  std::vector<AppendRow> rows;
  for (int64_t row = 0; row < 300; ++row) rows.push_back(MakeRefusedRow(row));
  rows.push_back(MakeRow(300));
  ASSERT_TRUE(store_->Append(id, 0, std::move(rows)).ok());
  ASSERT_TRUE(store_->Seal(id).ok());
  const std::string other = AddJob({"b"}, 10);
  ByJob taken;
  for (const PendingRow& row : store_->Take(5)) ++taken[row.job_id];
  EXPECT_EQ(taken, (ByJob{{id, 1}, {other, 4}}));
}

TEST_F(JobOrderTest, WhatWasInFlightGoesFirstAndCounts) {
  const std::string a = AddJob({"a"}, 100);
  ASSERT_EQ(TakeByJob(10), (ByJob{{a, 10}}));
  Open("");
  const std::string b = AddJob({"b", -1}, 100);
  const std::string c = AddJob({"c"}, 100);
  ByJob taken;
  std::vector<PendingRow> rows = store_->Take(30);
  for (const PendingRow& row : rows) ++taken[row.job_id];
  EXPECT_EQ(taken, (ByJob{{a, 15}, {c, 15}}));
  for (int64_t row = 0; row < 10; ++row) EXPECT_EQ(rows[row].job_id, a);
}

TEST_F(JobOrderTest, AsManyRequeuedRowsAsAskedForAndNoMore) {
  const std::string a = AddJob({"a"}, 10);
  ASSERT_EQ(TakeByJob(10), (ByJob{{a, 10}}));
  Open("");
  next_row_.clear();
  EXPECT_EQ(TakeByJob(4), (ByJob{{a, 4}}));
  EXPECT_EQ(TakeByJob(100), (ByJob{{a, 6}}));
}

TEST_F(JobOrderTest, TheEndIsEstimatedAndADeadlineBeforeItTold) {
  // 100 rows of 50 tokens at 10 tokens a second.
  const std::string first = AddJob({"a", 0, 3600}, 100, 10);
  EXPECT_NEAR(SecondsToEnd(first), 500, 5);
  EXPECT_FALSE(store_->Get(first).deadline_unreachable());
  // Of the same client, after it.
  const std::string second = AddJob({"a", 0, 4000}, 100, 10);
  EXPECT_NEAR(SecondsToEnd(second), 1000, 5);
  // Another client's gets every second token, and is to be done before that.
  const std::string third = AddJob({"b", 0, 300}, 40, 10);
  EXPECT_NEAR(SecondsToEnd(third), 400, 5);
  EXPECT_TRUE(store_->Get(third).deadline_unreachable());
  EXPECT_EQ(store_->Get(third).state(), BatchJob::STATE_QUEUED) << "it runs all the same";
  // Without a deadline there is none to miss.
  const std::string last = AddJob({"c", -1}, 100, 10);
  EXPECT_NEAR(SecondsToEnd(last), 500 + 500 + 200 + 500, 5);
  EXPECT_FALSE(store_->Get(last).deadline_unreachable());
  const std::string unknown = AddJob({"c", -1, 1000}, 100, 0);
  EXPECT_FALSE(store_->Get(unknown).has_estimated_end_time());
  EXPECT_FALSE(store_->Get(unknown).deadline_unreachable());
  // What was told is durable, and a second seal tells it again.
  const std::string before = store_->Get(third).SerializeAsString();
  Open("");
  EXPECT_EQ(store_->Get(third).SerializeAsString(), before);
  EXPECT_EQ(store_->Seal(third, 40, 1000)->SerializeAsString(), before);
}

TEST_F(JobOrderTest, AnswersThatHaveComeSayHowLongTheOthersWillBe) {
  const std::string id = AddJob({"a"}, 200, 10);
  ASSERT_EQ(store_->Take(100).size(), 100);
  for (int64_t row = 0; row < 100; ++row) {
    ASSERT_TRUE(store_->Record(id, MakeResult(row)).ok());  // 2 tokens each
  }
  const std::string next = AddJob({"a"}, 10, 10);
  EXPECT_NEAR(SecondsToEnd(next), (100 * (10 + 2) + 10 * 50) / 10, 5);
}

TEST_F(JobOrderTest, SharedTokensAddUpAndStay) {
  const std::string id = AddJob({"a"}, 3);
  ASSERT_EQ(store_->Take(3).size(), 3);
  for (int64_t row = 0; row < 2; ++row) {
    v1::BatchResult result = MakeResult(row);
    result.mutable_usage()->set_shared_prompt_tokens(16);
    ASSERT_TRUE(store_->Record(id, result).ok());
  }
  EXPECT_EQ(store_->Get(id).shared_prompt_tokens(), 32);
  Open("");
  EXPECT_EQ(store_->Get(id).shared_prompt_tokens(), 32);
  EXPECT_EQ(store_->Get(id).client(), "a");
}

}  // namespace
}  // namespace moelight
