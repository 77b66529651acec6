// Goal: what one client may hold is held across jobs, restarts and removals, and clients neither
// see nor disturb each other's jobs.
#include <string>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/store/store_test_util.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

v1::CreateBatchJobRequest JobOf(const std::string& client) {
  v1::CreateBatchJobRequest request;
  request.mutable_job()->set_client(client);
  return request;
}

std::string CreateFor(SyncStore& store, const std::string& client) {
  return store.Create(JobOf(client))->job_id();
}

JobStoreLimits LimitsOf(const std::string& client, const ClientQuota& quota) {
  JobStoreLimits limits;
  limits.clients[client] = quota;
  return limits;
}

TEST(ClientQuotaTest, EachIsNamedAndHoldsOneClientOnly) {
  const int64_t row_bytes = static_cast<int64_t>(MakeRow(0).request.ByteSizeLong());
  const struct {
    const char* name;
    ClientQuota quota;
    int64_t limit;
  } cases[] = {
      {"queued_rows", {.queued_rows = 3}, 3},
      {"queued_tokens", {.queued_tokens = 35}, 35},  // a row of the test has ten
      {"stored_bytes", {.stored_bytes = 3 * row_bytes}, 3 * row_bytes},
  };
  for (const auto& c : cases) {
    const TempFolder folder;
    const auto store = OpenStore(folder.path(), [&](JobStoreOptions& options) {
      options.limits = LimitsOf("alice", c.quota);
    });
    EXPECT_TRUE(store->Append(CreateFor(*store, "alice"), 0, MakeRows(0, 2)).ok());
    // Her second job counts too.
    const std::string second = CreateFor(*store, "alice");
    const absl::Status refused = store->Append(second, 0, MakeRows(0, 2)).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << c.name;
    EXPECT_THAT(refused.message(),
                HasSubstr(absl::StrCat("tenant alice: the quota ", c.name, " is ", c.limit, "; ")));
    EXPECT_TRUE(store->Append(second, 0, MakeRows(0, 1)).ok()) << c.name;
    EXPECT_TRUE(store->Append(CreateFor(*store, "bob"), 0, MakeRows(0, 9)).ok()) << c.name;
  }
}

TEST(ClientQuotaTest, RowsLeaveWithTheirResultsAndBytesWithTheirJobAlsoAfterARestart) {
  const TempFolder folder;
  const int64_t row_bytes = static_cast<int64_t>(MakeRow(0).request.ByteSizeLong());
  const auto open = [&]() {
    return OpenStore(folder.path(), [&](JobStoreOptions& options) {
      options.limits =
          LimitsOf("alice", {.queued_rows = 2, .queued_tokens = 0, .stored_bytes = 3 * row_bytes});
    });
  };
  auto store = open();
  const std::string first = CreateFor(*store, "alice");
  ASSERT_TRUE(store->Append(first, 0, MakeRows(0, 2)).ok());
  ASSERT_TRUE(store->Seal(first).ok());
  store = nullptr;
  store = open();
  const std::string second = CreateFor(*store, "alice");
  EXPECT_THAT(store->Append(second, 0, MakeRows(0, 1)).status().message(),
              HasSubstr("queued_rows is 2"));
  for (const PendingRow& row : store->Take(2)) {
    ASSERT_TRUE(store->Record(first, MakeResult(row.row)).ok());
  }
  EXPECT_TRUE(store->Append(second, 0, MakeRows(0, 1)).ok());
  EXPECT_THAT(store->Append(second, 1, MakeRows(1, 1)).status().message(),
              HasSubstr(absl::StrCat("stored_bytes is ", 3 * row_bytes)));
  ASSERT_TRUE(store->Delete(first).ok());
  EXPECT_TRUE(store->Append(second, 1, MakeRows(1, 1)).ok());
}

TEST(ClientQuotaTest, NewLimitsHoldForWhatIsSubmittedAfterThem) {
  const TempFolder folder;
  const auto store = OpenStore(folder.path());
  const std::string id = CreateFor(*store, "alice");
  store->store().SetLimits(LimitsOf("alice", {.queued_rows = 1}));
  EXPECT_FALSE(store->Append(id, 0, MakeRows(0, 2)).ok());
  store->store().SetLimits({});
  EXPECT_TRUE(store->Append(id, 0, MakeRows(0, 2)).ok());
}

TEST(ClientQuotaTest, RequestIdsOfClientsDoNotMeet) {
  const TempFolder folder;
  auto store = OpenStore(folder.path());
  v1::CreateBatchJobRequest alice = JobOf("alice");
  v1::CreateBatchJobRequest bob = JobOf("bob");
  alice.set_request_id("nightly");
  bob.set_request_id("nightly");
  const std::string id = store->Create(alice)->job_id();
  EXPECT_NE(store->Create(bob)->job_id(), id);
  store = nullptr;
  store = OpenStore(folder.path());
  EXPECT_EQ(store->Create(alice)->job_id(), id);
}

TEST(ClientQuotaTest, AListIsOfOneClientWhereItNamesOne) {
  const TempFolder folder;
  const auto store = OpenStore(folder.path());
  const std::string id = CreateFor(*store, "alice");
  CreateFor(*store, "bob");
  CreateFor(*store, "");
  const std::string alice = "alice";
  const auto jobs = store->store().List({}, &alice);
  ASSERT_TRUE(jobs.ok());
  ASSERT_EQ(jobs->jobs_size(), 1);
  EXPECT_EQ(jobs->jobs(0).job_id(), id);
  EXPECT_EQ(store->store().List({})->jobs_size(), 3);
}

}  // namespace
}  // namespace moelight
