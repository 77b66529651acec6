// Goal: every limit is held and named, and levels follow what is queued.
#include <future>
#include <string>

#include <absl/strings/cord.h>
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/check.h"
#include "google/rpc/error_details.pb.h"
#include "tests/store/store_test_util.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

void ExpectQuota(const absl::Status& status, const std::string& key, int64_t limit) {
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.QuotaFailure");
  ASSERT_TRUE(payload.has_value()) << status;
  google::rpc::QuotaFailure failure;
  ASSERT_TRUE(failure.ParseFromString(std::string(*payload)));
  ASSERT_EQ(failure.violations_size(), 1);
  EXPECT_THAT(failure.violations(0).description(), HasSubstr(absl::StrCat(key, " is ", limit)));
}

TEST(JobLimitsTest, EachLimitIsNamedInAQuotaFailure) {
  struct Case {
    const char* key;
    std::function<void(JobStoreLimits&)> set;
    std::function<absl::Status(SyncStore&)> exceed;
  };
  const Case cases[] = {
      {"server.limits.jobs", [](JobStoreLimits& l) { l.jobs = 3; },
       [](SyncStore& s) {
         for (int i = 0; i < 3; ++i) s.CreateJob();
         return s.Create({}).status();
       }},
      {"server.limits.rows_per_job", [](JobStoreLimits& l) { l.rows_per_job = 3; },
       [](SyncStore& s) { return s.Append(s.CreateJob(), 0, MakeRows(0, 4)).status(); }},
      {"server.limits.row_bytes", [](JobStoreLimits& l) { l.row_bytes = 100; },
       [](SyncStore& s) { return s.Append(s.CreateJob(), 0, {MakeRow(0, 100)}).status(); }},
      {"server.limits.queued_rows", [](JobStoreLimits& l) { l.queued_rows = 3; },
       [](SyncStore& s) {
         CHECK(s.Append(s.CreateJob(), 0, MakeRows(0, 2)).ok());
         return s.Append(s.CreateJob(), 0, MakeRows(0, 2)).status();
       }},
      {"server.limits.queued_tokens", [](JobStoreLimits& l) { l.queued_tokens = 35; },
       [](SyncStore& s) {
         CHECK(s.Append(s.CreateJob(), 0, MakeRows(0, 3)).ok());
         return s.Append(s.CreateJob(), 0, MakeRows(0, 1)).status();
       }},
  };
  const int64_t limits[] = {3, 3, 100, 3, 35};
  for (size_t i = 0; i < std::size(cases); ++i) {
    const TempFolder folder;
    const auto store =
        OpenStore(folder.path(), [&](JobStoreOptions& options) { cases[i].set(options.limits); });
    ExpectQuota(cases[i].exceed(*store), cases[i].key, limits[i]);
  }
}

TEST(JobLimitsTest, ARefusedAppendStoresNothing) {
  const TempFolder folder;
  const auto store =
      OpenStore(folder.path(), [](JobStoreOptions& o) { o.limits.rows_per_job = 3; });
  const std::string id = store->CreateJob();
  EXPECT_FALSE(store->Append(id, 0, MakeRows(0, 4)).ok());
  EXPECT_EQ(store->Get(id).num_rows(), 0);
  EXPECT_EQ(store->store().levels().queued_rows, 0);
  EXPECT_TRUE(store->Append(id, 0, MakeRows(0, 3)).ok());
}

TEST(JobLimitsTest, LimitsThatCannotBeHeldAreRefusedAtOpen) {
  const TempFolder folder;
  JobStoreOptions options;
  options.path = folder.path();
  options.limits.rows_per_job = int64_t{1} << 33;
  EXPECT_EQ(JobStore::Open(options, Logger::Null()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// The writer is held up inside a callback, so that the queue fills.
TEST(JobLimitsTest, AFullQueueRefusesAtOnceWithRetryInfo) {
  const TempFolder folder;
  for (const bool by_bytes : {false, true}) {
    const auto store = OpenStore(folder.path(), [by_bytes](JobStoreOptions& options) {
      if (by_bytes) {
        options.max_queued_mutation_bytes = 1000;
      } else {
        options.max_queued_mutations = 4;
      }
    });
    const std::string id = store->CreateJob();
    std::promise<void> held;
    std::promise<void> release;
    std::shared_future<void> released = release.get_future().share();
    store->store().Seal("job-none", -1, 0, [&held, released](const auto&) {
      held.set_value();
      released.wait();
    });
    held.get_future().wait();
    std::vector<std::promise<absl::Status>> outcomes(8);
    int64_t refused_at_once = 0;
    for (int64_t i = 0; i < 8; ++i) {
      store->store().Append(id, i, {MakeRow(i, 300)}, [&outcomes, i](const auto& outcome) {
        outcomes[i].set_value(outcome.status());
      });
    }
    release.set_value();
    for (std::promise<absl::Status>& outcome : outcomes) {
      const absl::Status status = outcome.get_future().get();
      if (status.ok()) continue;
      ++refused_at_once;
      if (absl::IsOutOfRange(status)) continue;  // its predecessor was refused
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
      EXPECT_TRUE(status.GetPayload("type.googleapis.com/google.rpc.RetryInfo").has_value());
    }
    EXPECT_GE(refused_at_once, 4);
    EXPECT_GE(store->Get(id).num_rows(), 2);
  }
}

TEST(JobLimitsTest, LevelsFollowRowsThroughTheirLife) {
  const TempFolder folder;
  auto store = OpenStore(folder.path());
  const auto expect = [&store](int64_t rows, int64_t tokens) {
    const JobStore::Levels levels = store->store().levels();
    EXPECT_EQ(levels.queued_rows, rows);
    EXPECT_EQ(levels.queued_tokens, tokens);
  };
  const std::string a = store->SealedJob(5);
  const std::string b = store->CreateJob();
  ASSERT_TRUE(store->Append(b, 0, {MakeRow(0), MakeRefusedRow(1), MakeRow(2)}).ok());
  expect(7, 70);
  ASSERT_EQ(store->Take(2).size(), 2);
  expect(7, 70);
  ASSERT_TRUE(store->Record(a, MakeResult(0)).ok());
  expect(6, 60);
  store.reset();
  store = OpenStore(folder.path());
  expect(6, 60);
  ASSERT_EQ(store->Take(1).size(), 1);  // row 1 again
  ASSERT_TRUE(store->Cancel(a).ok());
  expect(3, 30);  // of a only row 1, which is in flight
  ASSERT_TRUE(store->Record(a, MakeError(1, absl::StatusCode::kCancelled)).ok());
  expect(2, 20);
  ASSERT_TRUE(store->Cancel(b).ok());
  expect(0, 0);
  for (const auto& [state, count] : store->store().levels().jobs_by_state) {
    EXPECT_EQ(count, state == v1::BatchJob::STATE_CANCELLED ? 2 : 0);
  }
}

}  // namespace
}  // namespace moelight
