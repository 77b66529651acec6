// Database and Statement: SQLite as C++ values with absl::Status.
//
// Threads: a Database and its Statements belong to one thread at a time.
// Owns: the connection, the prepared statements. Statements must not outlive their Database.
// Errors: named with the file, SQLite's own message and the statement. The first one that a
// connection meets is kept in Database::failure(), so that an owner that must stop at the first
// failed write needs one look, not one per statement.
#ifndef MOELIGHT_SERVER_SQLITE_H_
#define MOELIGHT_SERVER_SQLITE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

struct sqlite3;
struct sqlite3_stmt;

namespace moelight {

class Database;

// A string bound as TEXT; a plain string_view is bound as BLOB.
struct SqlText {
  absl::string_view value;
};

// A prepared statement, run many times.
class Statement {
 public:
  Statement() = default;
  Statement(Statement&& other) noexcept { *this = std::move(other); }
  Statement& operator=(Statement&& other) noexcept;
  ~Statement();

  // Binds the arguments in order and runs to the end; rows are dropped.
  template <typename... Args>
  absl::Status Run(const Args&... args) {
    BindAll(args...);
    return RunBound();
  }
  // Binds the arguments and makes Next() deliver the rows from the first on. Bound strings are
  // borrowed until the last Next() or Reset().
  template <typename... Args>
  void Start(const Args&... args) {
    BindAll(args...);
  }
  // False after the last row; the statement is reset then.
  absl::StatusOr<bool> Next();
  // Ends a query early. A query that is left open keeps its read transaction.
  void Reset();

  // Columns of the current row, from 0. Views live until the next call on the statement.
  int64_t Int(int column) const;
  absl::string_view Bytes(int column) const;

 private:
  friend class Database;
  template <typename... Args>
  void BindAll(const Args&... args) {
    Reset();
    int position = 0;
    (Bind(++position, args), ...);
  }
  void Bind(int position, int64_t value);
  void Bind(int position, absl::string_view blob);
  void Bind(int position, SqlText text);
  void Bind(int position, std::nullptr_t);
  absl::Status RunBound();

  Database* database_ = nullptr;
  sqlite3_stmt* handle_ = nullptr;
};

struct DatabaseOptions {
  std::string path;
  bool read_only = false;  // otherwise created if absent
  std::string vfs;         // SQLite VFS by name; empty: the platform's
};

class Database {
 public:
  static absl::StatusOr<std::unique_ptr<Database>> Open(const DatabaseOptions& options);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // Runs statements separated by semicolons; rows are dropped.
  absl::Status Execute(const char* sql);
  // The first column of the only row, for pragmas and counts.
  absl::StatusOr<int64_t> QueryInt(const char* sql);
  absl::StatusOr<Statement> Prepare(absl::string_view sql);

  // Copies what readers allow from the WAL into the file; `truncate` waits for readers and empties
  // the WAL.
  absl::Status Checkpoint(bool truncate);
  // Pages in the WAL after the last commit of this connection.
  int wal_pages() const { return wal_pages_; }
  // Rows changed by the last statement.
  int64_t num_changes() const;

  // The first error that any call on this connection met; OK so far.
  const absl::Status& failure() const { return failure_; }
  const std::string& path() const { return path_; }

 private:
  friend class Statement;
  explicit Database(std::string path) : path_(std::move(path)) {}
  absl::Status Error(int code, absl::string_view doing);

  std::string path_;
  sqlite3* handle_ = nullptr;
  int wal_pages_ = 0;
  absl::Status failure_;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_SQLITE_H_
