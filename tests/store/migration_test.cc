// Goal: a store written by an earlier version opens, goes on where it was, and is new from then on.
#include <filesystem>
#include <string>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include "engine/base/check.h"
#include "server/sqlite.h"
#include "server/store/schema.h"
#include "tests/store/store_test_util.h"

namespace moelight {
namespace {

// Schema 1, as it was created on people's disks.
constexpr char kSchema1[] =
    "CREATE TABLE jobs("
    "  serial INTEGER PRIMARY KEY, job_id TEXT NOT NULL, request_id TEXT NOT NULL,"
    "  spec BLOB NOT NULL, spec_checksum INTEGER NOT NULL, state INTEGER NOT NULL,"
    "  deleted INTEGER NOT NULL, ending INTEGER NOT NULL, seal_order INTEGER NOT NULL,"
    "  next_row INTEGER NOT NULL, num_rows INTEGER NOT NULL, num_refused INTEGER NOT NULL,"
    "  num_succeeded INTEGER NOT NULL, num_failed INTEGER NOT NULL,"
    "  num_cancelled INTEGER NOT NULL, queued_tokens INTEGER NOT NULL,"
    "  prompt_tokens INTEGER NOT NULL, generated_tokens INTEGER NOT NULL,"
    "  create_us INTEGER NOT NULL, start_us INTEGER NOT NULL, end_us INTEGER NOT NULL,"
    "  error BLOB NOT NULL);"
    "CREATE TABLE row_chunks("
    "  key INTEGER PRIMARY KEY, num_rows INTEGER NOT NULL, num_refused INTEGER NOT NULL,"
    "  row_index BLOB NOT NULL, payload BLOB NOT NULL);"
    "CREATE TABLE results("
    "  key INTEGER PRIMARY KEY, first_row INTEGER NOT NULL, num_rows INTEGER NOT NULL,"
    "  is_template INTEGER NOT NULL, checksum INTEGER NOT NULL, payload BLOB NOT NULL);"
    "CREATE TABLE in_flight("
    "  key INTEGER PRIMARY KEY, tokens INTEGER NOT NULL, crashes INTEGER NOT NULL,"
    "  run INTEGER NOT NULL);"
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "PRAGMA application_id = 1299139700; PRAGMA user_version = 1;";

constexpr char kCopy[] =
    "INSERT INTO jobs SELECT serial, job_id, request_id, spec, spec_checksum, state, deleted, "
    "ending, seal_order, next_row, num_rows, num_refused, num_succeeded, num_failed, num_cancelled,"
    " queued_tokens, prompt_tokens, generated_tokens, create_us, start_us, end_us, error"
    " FROM source.jobs;"
    "INSERT INTO row_chunks SELECT * FROM source.row_chunks;"
    "INSERT INTO results SELECT * FROM source.results;"
    "INSERT INTO in_flight SELECT * FROM source.in_flight;"
    "INSERT INTO meta SELECT * FROM source.meta;";

// Puts what the store in `from` holds into one of schema 1 in `to`.
void WriteAsSchema1(const std::string& from, const std::string& to) {
  auto database = Database::Open({to + "/jobs.db", false, ""});
  CHECK(database.ok()) << database.status();
  const std::string sql =
      absl::StrCat(kSchema1, "ATTACH '", from, "/jobs.db' AS source;", kCopy, "DETACH source;");
  const absl::Status written = (*database)->Execute(sql.c_str());
  CHECK(written.ok()) << written;
}

TEST(MigrationTest, AStoreOfSchema1GoesOn) {
  const TempFolder source;
  const TempFolder folder;
  std::string id;
  std::string before;
  {
    auto store = OpenStore(source.path());
    v1::CreateBatchJobRequest request;
    request.mutable_job()->set_display_name("old");
    id = store->Create(request)->job_id();
    ASSERT_TRUE(store->Append(id, 0, {MakeRow(0), MakeRefusedRow(1), MakeRow(2), MakeRow(3)}).ok());
    ASSERT_TRUE(store->Seal(id).ok());
    ASSERT_EQ(store->Take(2).size(), 2);
    ASSERT_TRUE(store->Record(id, MakeResult(0)).ok());
    before = store->Get(id).SerializeAsString();
  }
  WriteAsSchema1(source.path(), folder.path());

  auto store = OpenStore(folder.path());
  EXPECT_EQ(store->Get(id).SerializeAsString(), before);
  const std::vector<PendingRow> rows = store->Take(10);
  ASSERT_EQ(rows.size(), 2);
  v1::BatchResult shared = MakeResult(2);
  shared.mutable_usage()->set_shared_prompt_tokens(7);
  ASSERT_TRUE(store->Record(id, shared).ok());
  store.reset();
  // The second start finds a store of today's.
  store = OpenStore(folder.path());
  EXPECT_EQ(store->Get(id).shared_prompt_tokens(), 7);
  ASSERT_EQ(store->Take(10).size(), 1);
  ASSERT_TRUE(store->Record(id, MakeResult(3)).ok());
  EXPECT_EQ(store->Get(id).state(), v1::BatchJob::STATE_SUCCEEDED);
  EXPECT_EQ(store->ReadAll(id).size(), 4);
}

TEST(MigrationTest, ANewStoreIsWhatAnOldOneBecomes) {
  const TempFolder source;
  const TempFolder folder;
  OpenStore(source.path());
  WriteAsSchema1(source.path(), folder.path());
  OpenStore(folder.path());
  const auto columns = [](const TempFolder& where) {
    auto database = Database::Open({where.path() + "/jobs.db", true, ""});
    CHECK(database.ok());
    EXPECT_EQ(*(*database)->QueryInt("PRAGMA user_version"), kSchemaVersion);
    auto read = (*database)->Prepare(
        "SELECT name, type, \"notnull\", dflt_value FROM pragma_table_info('jobs') ORDER BY cid");
    CHECK(read.ok()) << read.status();
    read->Start();
    std::string text;
    while (*read->Next()) {
      absl::StrAppend(&text, read->Bytes(0), " ", read->Bytes(1), " ", read->Int(2), " ",
                      read->Bytes(3), "\n");
    }
    return text;
  };
  EXPECT_EQ(columns(folder), columns(source));
}

}  // namespace
}  // namespace moelight
