#include "server/store/schema.h"

#include <iterator>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"

namespace moelight {
namespace {

constexpr int64_t kApplicationId = 0x4d6f4c74;  // "MoLt", so that file(1) and we recognise it

// Page caches are in KiB (negative by SQLite's convention) and are what the store may hold of the
// file, however large it is. journal_size_limit truncates a WAL that a burst made larger.
constexpr char kWriterSettings[] =
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = FULL;"
    "PRAGMA wal_autocheckpoint = 0;"
    "PRAGMA journal_size_limit = 67108864;"
    "PRAGMA cache_size = -8192;"
    "PRAGMA mmap_size = 0;"
    "PRAGMA foreign_keys = OFF;"
    "PRAGMA temp_store = MEMORY;";
constexpr char kReaderSettings[] =
    "PRAGMA wal_autocheckpoint = 0;"
    "PRAGMA query_only = ON;"
    "PRAGMA cache_size = -2048;"
    "PRAGMA mmap_size = 0;";

// jobs: one row per job; `spec` is what the client gave, the rest is where the job stands.
//   output_tokens: estimated, of all rows that were not refused; estimated_end_us: 0 if unknown.
//   row_bytes: of all rows as they were sent; 0 for rows from before schema 3.
// row_chunks: see row_chunk.h; key is job << 32 | first row.
// results: in the order of completion; key is job << 32 | sequence number. A record stands for
//   num_rows rows from first_row on and as many sequence numbers; `is_template`: the payload lacks
//   row and custom_id, which readers fill in.
// in_flight: rows handed to the engine that have no record; `run` is the process that did it last.
// meta: single numbers.
constexpr char kTables[] =
    "CREATE TABLE jobs("
    "  serial INTEGER PRIMARY KEY, job_id TEXT NOT NULL, request_id TEXT NOT NULL,"
    "  spec BLOB NOT NULL, spec_checksum INTEGER NOT NULL, state INTEGER NOT NULL,"
    "  deleted INTEGER NOT NULL, ending INTEGER NOT NULL, seal_order INTEGER NOT NULL,"
    "  next_row INTEGER NOT NULL, num_rows INTEGER NOT NULL, num_refused INTEGER NOT NULL,"
    "  num_succeeded INTEGER NOT NULL, num_failed INTEGER NOT NULL,"
    "  num_cancelled INTEGER NOT NULL, queued_tokens INTEGER NOT NULL,"
    "  prompt_tokens INTEGER NOT NULL, generated_tokens INTEGER NOT NULL,"
    "  create_us INTEGER NOT NULL, start_us INTEGER NOT NULL, end_us INTEGER NOT NULL,"
    "  error BLOB NOT NULL, shared_prompt_tokens INTEGER NOT NULL DEFAULT 0,"
    "  output_tokens INTEGER NOT NULL DEFAULT 0, estimated_end_us INTEGER NOT NULL DEFAULT 0,"
    "  row_bytes INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE row_chunks("
    "  key INTEGER PRIMARY KEY, num_rows INTEGER NOT NULL, num_refused INTEGER NOT NULL,"
    "  row_index BLOB NOT NULL, payload BLOB NOT NULL);"
    "CREATE TABLE results("
    "  key INTEGER PRIMARY KEY, first_row INTEGER NOT NULL, num_rows INTEGER NOT NULL,"
    "  is_template INTEGER NOT NULL, checksum INTEGER NOT NULL, payload BLOB NOT NULL);"
    "CREATE TABLE in_flight("
    "  key INTEGER PRIMARY KEY, tokens INTEGER NOT NULL, crashes INTEGER NOT NULL,"
    "  run INTEGER NOT NULL);"
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;";

// [i] brings schema i + 1 to i + 2. What is here has run on people's disks and never changes.
constexpr const char* kMigrations[] = {
    "ALTER TABLE jobs ADD COLUMN shared_prompt_tokens INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE jobs ADD COLUMN output_tokens INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE jobs ADD COLUMN estimated_end_us INTEGER NOT NULL DEFAULT 0;",
    "ALTER TABLE jobs ADD COLUMN row_bytes INTEGER NOT NULL DEFAULT 0;",
};
static_assert(std::size(kMigrations) == kSchemaVersion - 1);

// One transaction each, so that a process that ends in between leaves a version that is whole.
absl::Status Migrate(Database& database, int64_t version) {
  for (; version < kSchemaVersion; ++version) {
    const std::string sql = absl::StrCat("BEGIN IMMEDIATE;", kMigrations[version - 1],
                                         "PRAGMA user_version = ", version + 1, "; COMMIT;");
    RETURN_IF_ERROR(database.Execute(sql.c_str()));
  }
  return absl::OkStatus();
}

absl::Status CreateTables(Database& database) {
  const std::string sql =
      absl::StrCat("BEGIN IMMEDIATE;", kTables, "PRAGMA application_id = ", kApplicationId, ";",
                   "PRAGMA user_version = ", kSchemaVersion, "; COMMIT;");
  return database.Execute(sql.c_str());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Database>> OpenWriter(const std::string& path,
                                                     const std::string& vfs) {
  ASSIGN_OR_RETURN(std::unique_ptr<Database> database, Database::Open({path, false, vfs}));
  ASSIGN_OR_RETURN(const int64_t version, database->QueryInt("PRAGMA user_version"));
  ASSIGN_OR_RETURN(const int64_t application, database->QueryInt("PRAGMA application_id"));
  ASSIGN_OR_RETURN(const int64_t tables, database->QueryInt("SELECT count(*) FROM sqlite_schema"));
  if (tables != 0 && (application != kApplicationId || version < 1)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is another program's database; store.path must name another folder"));
  }
  if (version > kSchemaVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " was written by a newer moelightd (schema ", version,
                     ", this one knows up to ", kSchemaVersion, "); start that version or newer"));
  }
  RETURN_IF_ERROR(database->Execute(kWriterSettings));
  RETURN_IF_ERROR(tables == 0 ? CreateTables(*database) : Migrate(*database, version));
  return database;
}

absl::StatusOr<std::unique_ptr<Database>> OpenReader(const std::string& path,
                                                     const std::string& vfs) {
  ASSIGN_OR_RETURN(std::unique_ptr<Database> database, Database::Open({path, true, vfs}));
  RETURN_IF_ERROR(database->Execute(kReaderSettings));
  return database;
}

}  // namespace moelight
