// The database file of the store: its tables, version and connection settings.
//
// One file, "jobs.db", in WAL mode. The writer's connection alone writes and checkpoints; readers
// are opened read-only (SQLite 3.40 can corrupt the WAL when several connections checkpoint).
//
// Rows and results are kept under one integer key each, job << 32 | index, because appending to
// the end of an integer-keyed table is the cheapest write that SQLite has and all that belongs to a
// job lies together, in order.
#ifndef MOELIGHT_SERVER_STORE_SCHEMA_H_
#define MOELIGHT_SERVER_STORE_SCHEMA_H_

#include <cstdint>
#include <memory>
#include <string>

#include <absl/status/statusor.h>

#include "server/sqlite.h"

namespace moelight {

// PRAGMA user_version. A database with a higher one is refused.
inline constexpr int64_t kSchemaVersion = 3;
inline constexpr char kDatabaseName[] = "jobs.db";

// 31 bits of job, 32 bits of row or sequence number.
inline constexpr int64_t kMaxRowsPerJob = (int64_t{1} << 32) - 1;
inline constexpr int64_t kMaxSerial = (int64_t{1} << 31) - 1;
constexpr int64_t StoreKey(int64_t serial, int64_t index) { return serial << 32 | index; }
constexpr int64_t KeyIndex(int64_t key) { return key & kMaxRowsPerJob; }
constexpr int64_t KeySerial(int64_t key) { return key >> 32; }

// Creates the tables in a new database and brings an older one up to date. FailedPrecondition for a
// file that is not ours or newer.
absl::StatusOr<std::unique_ptr<Database>> OpenWriter(const std::string& path,
                                                     const std::string& vfs);
// REQUIRES: the writer is open and stays open longer.
absl::StatusOr<std::unique_ptr<Database>> OpenReader(const std::string& path,
                                                     const std::string& vfs);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_SCHEMA_H_
