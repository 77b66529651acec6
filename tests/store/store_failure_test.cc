// Goal: after the first failed write nothing is acknowledged any more, and what was acknowledged
// before is there after a restart.
#include <atomic>
#include <future>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/store/failing_vfs.h"
#include "tests/store/store_test_util.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

class StoreFailureTest : public ::testing::TestWithParam<DiskFailure> {};

TEST_P(StoreFailureTest, EndsTheStoreOnce) {
  const TempFolder folder;
  SetDiskFailure(DiskFailure::kNone);
  std::atomic<int> num_fatal = 0;
  std::promise<absl::Status> fatal;
  auto store = OpenStore(folder.path(), [&](JobStoreOptions& options) {
    options.vfs = kFailingVfsName;
    options.on_fatal = [&](absl::Status reason) {
      if (num_fatal++ == 0) fatal.set_value(std::move(reason));
    };
  });
  const std::string id = store->SealedJob(3);
  ASSERT_EQ(store->Take(1).size(), 1);

  SetDiskFailure(GetParam());
  EXPECT_EQ(store->Record(id, MakeResult(0)).code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(fatal.get_future().get().message()), HasSubstr("jobs.db"));
  // It stays ended even though the disk recovers: what the failed sync left behind is unknown.
  SetDiskFailure(DiskFailure::kNone);
  EXPECT_EQ(store->Create({}).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(store->Cancel(id).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(num_fatal, 1);
  EXPECT_EQ(store->Get(id).num_succeeded(), 0) << "nothing unacknowledged is visible";
  EXPECT_TRUE(store->ReadAll(id).empty());

  store.reset();
  store = OpenStore(folder.path());
  EXPECT_EQ(store->Get(id).num_rows(), 3);
  for (const PendingRow& row : store->Take(10)) {
    EXPECT_TRUE(store->Record(id, MakeResult(row.row)).ok());
  }
  EXPECT_EQ(store->Get(id).state(), v1::BatchJob::STATE_SUCCEEDED);
  EXPECT_EQ(store->ReadAll(id).size(), 3);
}

INSTANTIATE_TEST_SUITE_P(Kinds, StoreFailureTest,
                         ::testing::Values(DiskFailure::kSync, DiskFailure::kWrite,
                                           DiskFailure::kFull));

}  // namespace
}  // namespace moelight
