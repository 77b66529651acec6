// RowReader: finds single rows in the chunks of a database.
//
// Threads: those of its Database. Owns: a statement and the chunk that it read last, because
// neighbours are asked for one after the other.
#ifndef MOELIGHT_SERVER_STORE_ROW_READER_H_
#define MOELIGHT_SERVER_STORE_ROW_READER_H_

#include <cstdint>
#include <memory>
#include <string>

#include <absl/status/statusor.h>

#include "server/sqlite.h"
#include "server/store/row_chunk.h"

namespace moelight {

class RowReader {
 public:
  static absl::StatusOr<std::unique_ptr<RowReader>> Create(Database& database);

  // The view lives until the next call. DataLoss naming `job_id` and row if the row is damaged or
  // missing; the connection's own errors otherwise (Database::failure() is set then).
  absl::StatusOr<RowView> Read(int64_t serial, const std::string& job_id, int64_t row);
  // Forgets the chunk read last. Call before the serial could be used again by another job.
  void Forget() { serial_ = -1; }

 private:
  absl::Status Load(int64_t serial, const std::string& job_id, int64_t row);

  Statement find_;
  int64_t serial_ = -1;  // of `chunk_`
  RowChunk chunk_;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_ROW_READER_H_
