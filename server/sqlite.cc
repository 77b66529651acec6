#include "server/sqlite.h"

#include <absl/strings/str_cat.h>
#include <sqlite3.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// Readers are short, so a lock that is held longer than this belongs to a foreign process.
constexpr int kBusyTimeoutMs = 5000;

absl::StatusCode CodeOf(int sqlite_code) {
  switch (sqlite_code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_IOERR:
      return absl::StatusCode::kUnavailable;
    case SQLITE_FULL:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::StatusCode::kDataLoss;
    case SQLITE_READONLY:
    case SQLITE_PERM:
      return absl::StatusCode::kPermissionDenied;
    case SQLITE_CANTOPEN:
      return absl::StatusCode::kFailedPrecondition;
    default:
      return absl::StatusCode::kInternal;
  }
}

int KeepWalPages(void* wal_pages, sqlite3* /*handle*/, const char* /*name*/, int pages) {
  *static_cast<int*>(wal_pages) = pages;
  return SQLITE_OK;
}

}  // namespace

Statement& Statement::operator=(Statement&& other) noexcept {
  if (this != &other) {
    sqlite3_finalize(handle_);
    database_ = std::exchange(other.database_, nullptr);
    handle_ = std::exchange(other.handle_, nullptr);
  }
  return *this;
}

Statement::~Statement() { sqlite3_finalize(handle_); }

absl::StatusOr<bool> Statement::Next() {
  const int code = sqlite3_step(handle_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) {
    Reset();
    return false;
  }
  absl::Status error = database_->Error(code, sqlite3_sql(handle_));
  Reset();
  return error;
}

void Statement::Reset() { sqlite3_reset(handle_); }

absl::Status Statement::RunBound() {
  while (true) {
    ASSIGN_OR_RETURN(const bool more, Next());
    if (!more) return absl::OkStatus();
  }
}

int64_t Statement::Int(int column) const { return sqlite3_column_int64(handle_, column); }

absl::string_view Statement::Bytes(int column) const {
  // The pointer first: asking for the size may convert and move the value.
  const char* data = static_cast<const char*>(sqlite3_column_blob(handle_, column));
  return {data, static_cast<size_t>(sqlite3_column_bytes(handle_, column))};
}

// Binding fails only for a wrong position, a string past SQLite's 1 GB or out of memory: bugs here,
// because rows and results are limited far below.
void Statement::Bind(int position, int64_t value) {
  CHECK_EQ(sqlite3_bind_int64(handle_, position, value), SQLITE_OK);
}
void Statement::Bind(int position, absl::string_view blob) {
  // A null pointer would bind NULL instead of the empty blob.
  const char* data = blob.data() != nullptr ? blob.data() : "";
  CHECK_EQ(sqlite3_bind_blob64(handle_, position, data, blob.size(), SQLITE_STATIC), SQLITE_OK);
}
void Statement::Bind(int position, SqlText text) {
  const char* data = text.value.data() != nullptr ? text.value.data() : "";
  CHECK_EQ(
      sqlite3_bind_text64(handle_, position, data, text.value.size(), SQLITE_STATIC, SQLITE_UTF8),
      SQLITE_OK);
}
void Statement::Bind(int position, std::nullptr_t) {
  CHECK_EQ(sqlite3_bind_null(handle_, position), SQLITE_OK);
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const DatabaseOptions& options) {
  std::unique_ptr<Database> database(new Database(options.path));
  const int access =
      options.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  const int code = sqlite3_open_v2(options.path.c_str(), &database->handle_,
                                   access | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                                   options.vfs.empty() ? nullptr : options.vfs.c_str());
  if (code != SQLITE_OK) return database->Error(code, "open");
  sqlite3_busy_timeout(database->handle_, kBusyTimeoutMs);
  // The hook also takes the place of SQLite's automatic checkpoint: nobody checkpoints unasked.
  sqlite3_wal_hook(database->handle_, KeepWalPages, &database->wal_pages_);
  if (options.read_only) {
    sqlite3_db_config(database->handle_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  }
  return database;
}

Database::~Database() { sqlite3_close_v2(handle_); }

absl::Status Database::Execute(const char* sql) {
  const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, sql);
}

absl::StatusOr<int64_t> Database::QueryInt(const char* sql) {
  ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  ASSIGN_OR_RETURN(const bool found, statement.Next());
  if (!found) return absl::InternalError(absl::StrCat(path_, ": no answer to ", sql));
  return statement.Int(0);
}

absl::StatusOr<Statement> Database::Prepare(absl::string_view sql) {
  Statement statement;
  statement.database_ = this;
  const int code = sqlite3_prepare_v3(handle_, sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &statement.handle_, nullptr);
  if (code != SQLITE_OK) return Error(code, sql);
  return statement;
}

absl::Status Database::Checkpoint(bool truncate) {
  int pages = 0;
  const int mode = truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
  const int code = sqlite3_wal_checkpoint_v2(handle_, nullptr, mode, &pages, nullptr);
  // Busy: a reader is in the way. The next checkpoint gets there.
  if (code != SQLITE_OK && (code & 0xff) != SQLITE_BUSY) return Error(code, "checkpoint");
  return absl::OkStatus();
}

int64_t Database::num_changes() const { return sqlite3_changes64(handle_); }

absl::Status Database::Error(int code, absl::string_view doing) {
  const char* message = handle_ != nullptr ? sqlite3_errmsg(handle_) : sqlite3_errstr(code);
  absl::Status error(CodeOf(code),
                     absl::StrCat(path_, ": ", message, " (SQLite error ", code, ") in ", doing));
  if (failure_.ok()) failure_ = error;
  return error;
}

}  // namespace moelight
