// Goal: the parts under the job store keep their promises on their own.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "server/sqlite.h"
#include "server/store/crc32c.h"
#include "server/store/folder_lock.h"
#include "server/store/row_chunk.h"
#include "server/store/schema.h"
#include "server/store/subscriptions.h"
#include "tests/store/store_test_util.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

// One bit after the other, as the polynomial is defined.
uint32_t SlowCrc32c(absl::string_view data) {
  uint32_t crc = 0xffffffff;
  for (const char c : data) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78 : 0);
  }
  return ~crc;
}

TEST(Crc32cTest, GivesThePublishedCheckValue) { EXPECT_EQ(Crc32c("123456789"), 0xe3069283u); }

TEST(Crc32cTest, EqualsTheDefinitionAtEveryLength) {
  std::string data;
  for (int i = 0; i < 70; ++i) {
    EXPECT_EQ(Crc32c(data), SlowCrc32c(data)) << data.size();
    data += static_cast<char>(i * 37);
  }
}

EncodedRow Encoded(std::string request, int64_t tokens, bool refused) {
  return {std::move(request), tokens, refused ? "result" : ""};
}

TEST(RowChunkTest, GivesBackEveryRowWhateverTheSizes) {
  const int64_t sizes[] = {
      0, 1, 1000, kMaxChunkPayloadBytes - 1, kMaxChunkPayloadBytes, kMaxChunkPayloadBytes + 1,
      3, 0};
  std::vector<EncodedRow> rows = {Encoded("not encoded", 0, false)};
  for (const int64_t size : sizes) {
    rows.push_back(Encoded(std::string(static_cast<size_t>(size), 'a'), size * 2, size % 2 == 1));
  }
  for (int i = 0; i < 2 * kMaxChunkRows; ++i) rows.push_back(Encoded("small", 7, false));
  const std::vector<EncodedChunk> chunks = EncodeChunks(rows, 1, 100);
  int64_t row = 100;
  for (const EncodedChunk& encoded : chunks) {
    EXPECT_EQ(encoded.first_row, row);
    EXPECT_LE(encoded.num_rows, kMaxChunkRows);
    const RowChunk chunk("job", encoded.first_row, encoded.num_rows, encoded.index,
                         encoded.payload);
    const auto refused = RefusedFlags(encoded.index, encoded.num_rows);
    ASSERT_TRUE(refused.ok());
    int64_t num_refused = 0;
    for (; chunk.Contains(row); ++row) {
      const EncodedRow& wanted = rows[static_cast<size_t>(row - 99)];
      const absl::StatusOr<RowView> view = chunk.Row(row);
      ASSERT_TRUE(view.ok()) << view.status();
      EXPECT_EQ(view->request, wanted.request);
      EXPECT_EQ(view->prompt_tokens, wanted.prompt_tokens);
      EXPECT_EQ(view->refused, !wanted.refusal.empty());
      EXPECT_EQ((*refused)[row - encoded.first_row], view->refused);
      num_refused += view->refused ? 1 : 0;
    }
    EXPECT_EQ(encoded.num_refused, num_refused);
  }
  EXPECT_EQ(row, 99 + static_cast<int64_t>(rows.size()));
}

TEST(RowChunkTest, DamageIsPinnedToItsRow) {
  const std::vector<EncodedRow> rows = {Encoded("first", 1, false), Encoded("second", 1, false),
                                        Encoded("third", 1, false)};
  EncodedChunk encoded = EncodeChunks(rows, 0, 0)[0];
  encoded.payload[6] ^= 1;
  const RowChunk chunk("job-x", 0, 3, encoded.index, encoded.payload);
  EXPECT_TRUE(chunk.Row(0).ok());
  EXPECT_TRUE(chunk.Row(2).ok());
  const absl::Status damaged = chunk.Row(1).status();
  EXPECT_EQ(damaged.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(damaged.message()), HasSubstr("job-x row 1"));

  encoded.index[0] ^= 1;
  const RowChunk lost("job-x", 0, 3, encoded.index, encoded.payload);
  for (int64_t row = 0; row < 3; ++row) {
    EXPECT_EQ(lost.Row(row).status().code(), absl::StatusCode::kDataLoss);
  }
  EXPECT_FALSE(RefusedFlags(encoded.index, 3).ok());
  EXPECT_FALSE(RefusedFlags(encoded.index.substr(1), 3).ok());
}

TEST(SqliteTest, RoundTripsValuesAndRemembersTheFirstFailure) {
  const TempFolder folder;
  auto database = Database::Open({folder.path() + "/t.db", false, ""});
  ASSERT_TRUE(database.ok());
  ASSERT_TRUE((*database)->Execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB, c TEXT)").ok());
  auto insert = (*database)->Prepare("INSERT INTO t VALUES(?,?,?)");
  ASSERT_TRUE(insert.ok());
  const std::string blob("\0x\0", 3);
  ASSERT_TRUE(insert->Run(int64_t{1}, absl::string_view(blob), SqlText{"text"}).ok());
  ASSERT_TRUE(insert->Run(int64_t{2}, absl::string_view(), nullptr).ok());
  auto select = (*database)->Prepare("SELECT a, b, c FROM t WHERE a >= ? ORDER BY a");
  ASSERT_TRUE(select.ok());
  select->Start(int64_t{1});
  ASSERT_TRUE(*select->Next());
  EXPECT_EQ(select->Int(0), 1);
  EXPECT_EQ(select->Bytes(1), blob);
  EXPECT_EQ(select->Bytes(2), "text");
  ASSERT_TRUE(*select->Next());
  EXPECT_EQ(select->Bytes(1), "");
  EXPECT_FALSE(*select->Next());
  EXPECT_TRUE((*database)->failure().ok());

  const absl::Status twice = insert->Run(int64_t{1}, absl::string_view(), nullptr);
  EXPECT_FALSE(twice.ok());
  EXPECT_THAT(std::string(twice.message()), HasSubstr("t.db"));
  EXPECT_TRUE(insert->Run(int64_t{3}, absl::string_view(), nullptr).ok());
  EXPECT_EQ((*database)->failure(), twice);
}

TEST(SchemaTest, RefusesNewerAndForeignDatabases) {
  const TempFolder folder;
  const std::string newer = folder.path() + "/newer.db";
  {
    auto database = OpenWriter(newer, "");
    ASSERT_TRUE(database.ok()) << database.status();
    ASSERT_TRUE((*database)->Execute("PRAGMA user_version = 7").ok());
  }
  const absl::Status refused = OpenWriter(newer, "").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("schema 7"));

  const std::string foreign = folder.path() + "/foreign.db";
  {
    auto database = Database::Open({foreign, false, ""});
    ASSERT_TRUE((*database)->Execute("CREATE TABLE t(a)").ok());
  }
  EXPECT_EQ(OpenWriter(foreign, "").status().code(), absl::StatusCode::kFailedPrecondition);

  const std::string unversioned = folder.path() + "/unversioned.db";
  ASSERT_TRUE(OpenWriter(unversioned, "").ok());
  {
    auto database = Database::Open({unversioned, false, ""});
    ASSERT_TRUE((*database)->Execute("PRAGMA user_version = 0").ok());
  }
  EXPECT_EQ(OpenWriter(unversioned, "").status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(FolderLockTest, SecondHolderIsToldWhoHasIt) {
  const TempFolder folder;
  auto lock = FolderLock::Acquire(folder.path());
  ASSERT_TRUE(lock.ok());
  const absl::Status second = FolderLock::Acquire(folder.path()).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.message()), HasSubstr(absl::StrCat("process ", getpid())));
  EXPECT_THAT(std::string(second.message()), HasSubstr(folder.path()));
  lock->reset();
  EXPECT_TRUE(FolderLock::Acquire(folder.path()).ok());
}

TEST(SubscriptionsTest, CallsThoseOfTheJobAndThoseOfAll) {
  Subscriptions subscriptions;
  int all = 0;
  int a = 0;
  subscriptions.Add("", [&all]() { ++all; });
  const int64_t id = subscriptions.Add("a", [&a]() { ++a; });
  subscriptions.Notify({"a", "b"});
  subscriptions.Notify({"b"});
  subscriptions.Notify({});
  EXPECT_EQ(all, 2);
  EXPECT_EQ(a, 1);
  subscriptions.Remove(id);
  subscriptions.Remove(id);
  subscriptions.Notify({"a"});
  EXPECT_EQ(a, 1);
}

TEST(SubscriptionsTest, RemoveWithinTheCallReturnsAndRemoveElsewhereWaits) {
  Subscriptions subscriptions;
  int64_t own = 0;
  own = subscriptions.Add("a", [&]() { subscriptions.Remove(own); });
  subscriptions.Notify({"a"});

  std::atomic<bool> entered = false;
  std::atomic<bool> left = false;
  std::promise<void> may_leave;
  const int64_t id = subscriptions.Add("b", [&]() {
    entered = true;
    entered.notify_all();
    may_leave.get_future().wait();
    left = true;
  });
  std::thread notifier([&]() { subscriptions.Notify({"b"}); });
  entered.wait(false);
  std::thread releaser([&]() { may_leave.set_value(); });
  subscriptions.Remove(id);
  EXPECT_TRUE(left);
  notifier.join();
  releaser.join();
}

}  // namespace
}  // namespace moelight
