// Tables: the writer's statements, typed. Every change that the store makes on disk is here.
//
// Threads: those of its Database. Owns: prepared statements. Errors: the Database's own.
#ifndef MOELIGHT_SERVER_STORE_TABLES_H_
#define MOELIGHT_SERVER_STORE_TABLES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "server/sqlite.h"
#include "server/store/job_entry.h"
#include "server/store/row_chunk.h"

namespace moelight {

// The head of a chunk, without its rows.
struct ChunkHead {
  int64_t first_row = 0;
  int64_t num_rows = 0;
  int64_t num_refused = 0;
  std::string index;  // empty unless some but not all rows are refused
};

// A terminal record as it is written.
struct ResultRecord {
  int64_t sequence = 0;  // its first sequence number in the job
  int64_t first_row = 0;
  int64_t num_rows = 1;
  bool is_template = false;   // the payload lacks row and custom_id
  absl::string_view payload;  // serialized BatchResult
};

// What the client gave at creation, as stored and as compared between calls with one request_id.
std::string SpecOf(const moelight::v1::BatchJob& job);

// Sets estimated_end_time and deadline_unreachable, which follows from it.
void SetEstimatedEnd(const google::protobuf::Timestamp& time, moelight::v1::BatchJob& job);

class Tables {
 public:
  static absl::StatusOr<std::unique_ptr<Tables>> Create(Database& database);

  absl::Status Begin() { return begin_.Run(); }
  absl::Status Commit() { return commit_.Run(); }

  // Deleted jobs come with `deleted` set and nothing but their serial.
  absl::Status LoadJobs(const std::function<void(JobEntry entry, bool deleted)>& each);
  absl::Status PutJob(const JobEntry& entry);
  absl::Status MarkDeleted(int64_t serial);
  absl::Status EraseJob(int64_t serial);

  absl::Status InsertChunk(int64_t serial, const EncodedChunk& chunk);
  // Heads of the chunks that hold rows from `row` on, in order, at most `limit`.
  absl::StatusOr<std::vector<ChunkHead>> ChunkHeads(int64_t serial, int64_t row, int64_t limit);
  // How many were removed; less than `limit`: none are left.
  absl::StatusOr<int64_t> EraseChunks(int64_t serial, int64_t limit);

  absl::Status InsertResult(int64_t serial, const ResultRecord& record);
  // Whether a row has a record, by looking through all of its job's: for damaged chunks only.
  absl::StatusOr<bool> HasResult(int64_t serial, int64_t row);
  absl::StatusOr<int64_t> EraseResults(int64_t serial, int64_t limit);

  absl::Status LoadInFlight(const std::function<void(int64_t serial, int64_t row,
                                                     InFlightRow in_flight, int64_t run)>& each);
  absl::Status PutInFlight(int64_t serial, int64_t row, const InFlightRow& in_flight, int64_t run);
  absl::Status EraseInFlight(int64_t serial, int64_t row);

  // 0 if never put.
  absl::StatusOr<int64_t> GetMeta(absl::string_view name);
  absl::Status PutMeta(absl::string_view name, int64_t value);

 private:
  explicit Tables(Database& database) : database_(database) {}
  absl::Status Prepare();

  Database& database_;
  Statement begin_, commit_;
  Statement load_jobs_, put_job_, mark_deleted_, erase_job_;
  Statement insert_chunk_, chunk_at_, chunk_heads_, erase_chunks_;
  Statement insert_result_, has_result_, erase_results_;
  Statement load_in_flight_, put_in_flight_, erase_in_flight_;
  Statement get_meta_, put_meta_;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_TABLES_H_
