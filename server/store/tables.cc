#include "server/store/tables.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "server/store/crc32c.h"
#include "server/store/schema.h"
#include "server/store/store_errors.h"
#include "server/store/timestamps.h"

namespace moelight {
namespace {

// Serials of deleted jobs are all that is needed of them.
constexpr char kLoadJobs[] =
    "SELECT serial, deleted, job_id, request_id, spec, spec_checksum, state, ending, seal_order,"
    " next_row, num_rows, num_refused, num_succeeded, num_failed, num_cancelled, queued_tokens,"
    " prompt_tokens, generated_tokens, create_us, start_us, end_us, error, shared_prompt_tokens,"
    " output_tokens, estimated_end_us, row_bytes FROM jobs ORDER BY serial";
constexpr char kPutJob[] =
    "INSERT OR REPLACE INTO jobs(serial, deleted, job_id, request_id, spec, spec_checksum, state,"
    " ending, seal_order, next_row, num_rows, num_refused, num_succeeded, num_failed,"
    " num_cancelled, queued_tokens, prompt_tokens, generated_tokens, create_us, start_us, end_us,"
    " error, shared_prompt_tokens, output_tokens, estimated_end_us, row_bytes)"
    " VALUES(?,0,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";

// A job whose own record is damaged cannot be run as asked; it is shown as failed, its rows and
// results stay readable.
void FailDamagedJob(v1::BatchJob& job) {
  job.set_state(v1::BatchJob::STATE_FAILED);
  *job.mutable_error() = RowError(absl::StatusCode::kDataLoss,
                                  absl::StrCat("the stored settings of ", job.job_id(),
                                               " are damaged: their checksum does not match"),
                                  "JOB_DAMAGED");
  if (!job.has_end_time()) *job.mutable_end_time() = CurrentTimestamp();
}

JobEntry EntryOf(const Statement& row) {
  JobEntry entry;
  v1::BatchJob& job = entry.job;
  const absl::string_view spec = row.Bytes(4);
  const bool intact =
      Crc32c(spec) == row.Int(5) && job.ParseFromArray(spec.data(), static_cast<int>(spec.size()));
  if (!intact) job.Clear();
  entry.serial = row.Int(0);
  job.set_job_id(std::string(row.Bytes(2)));
  entry.request_id = std::string(row.Bytes(3));
  job.set_state(static_cast<v1::BatchJob::State>(row.Int(6)));
  entry.ending = static_cast<Ending>(row.Int(7));
  entry.seal_order = row.Int(8);
  entry.next_row = row.Int(9);
  job.set_num_rows(row.Int(10));
  entry.num_refused = row.Int(11);
  job.set_num_succeeded(row.Int(12));
  job.set_num_failed(row.Int(13));
  job.set_num_cancelled(row.Int(14));
  entry.queued_tokens = row.Int(15);
  job.set_prompt_tokens(row.Int(16));
  job.set_generated_tokens(row.Int(17));
  *job.mutable_create_time() = FromMicros(row.Int(18));
  if (row.Int(19) != 0) *job.mutable_start_time() = FromMicros(row.Int(19));
  if (row.Int(20) != 0) *job.mutable_end_time() = FromMicros(row.Int(20));
  const absl::string_view error = row.Bytes(21);
  if (!error.empty()) {
    job.mutable_error()->ParseFromArray(error.data(), static_cast<int>(error.size()));
  }
  job.set_shared_prompt_tokens(row.Int(22));
  entry.estimated_output_tokens = row.Int(23);
  if (row.Int(24) != 0) SetEstimatedEnd(FromMicros(row.Int(24)), job);
  entry.row_bytes = row.Int(25);
  if (!intact) FailDamagedJob(job);
  return entry;
}

}  // namespace

void SetEstimatedEnd(const google::protobuf::Timestamp& time, v1::BatchJob& job) {
  *job.mutable_estimated_end_time() = time;
  job.set_deadline_unreachable(job.has_expire_time() &&
                               ToAbslTime(time) > ToAbslTime(job.expire_time()));
}

std::string SpecOf(const v1::BatchJob& job) {
  v1::BatchJob spec;
  spec.set_display_name(job.display_name());
  if (job.has_expire_time()) *spec.mutable_expire_time() = job.expire_time();
  if (job.has_default_sampling()) *spec.mutable_default_sampling() = job.default_sampling();
  *spec.mutable_labels() = job.labels();
  spec.set_client(job.client());
  spec.set_priority(job.priority());
  return SerializeDeterministic(spec);
}

absl::StatusOr<std::unique_ptr<Tables>> Tables::Create(Database& database) {
  std::unique_ptr<Tables> tables(new Tables(database));
  RETURN_IF_ERROR(tables->Prepare());
  return tables;
}

absl::Status Tables::Prepare() {
  const std::pair<Statement*, absl::string_view> statements[] = {
      {&begin_, "BEGIN IMMEDIATE"},
      {&commit_, "COMMIT"},
      {&load_jobs_, kLoadJobs},
      {&put_job_, kPutJob},
      {&mark_deleted_, "UPDATE jobs SET deleted = 1, request_id = '' WHERE serial = ?"},
      {&erase_job_, "DELETE FROM jobs WHERE serial = ?"},
      {&insert_chunk_,
       "INSERT INTO row_chunks(key, num_rows, num_refused, row_index, payload) VALUES(?,?,?,?,?)"},
      {&chunk_at_, "SELECT max(key) FROM row_chunks WHERE key <= ?"},
      // The index column is fetched only where it tells something.
      {&chunk_heads_,
       "SELECT key, num_rows, num_refused,"
       " CASE WHEN num_refused IN (0, num_rows) THEN x'' ELSE row_index END"
       " FROM row_chunks WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?"},
      {&erase_chunks_,
       "DELETE FROM row_chunks WHERE key IN"
       " (SELECT key FROM row_chunks WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?)"},
      {&insert_result_,
       "INSERT INTO results(key, first_row, num_rows, is_template, checksum, payload)"
       " VALUES(?,?,?,?,?,?)"},
      {&has_result_,
       "SELECT 1 FROM results WHERE key BETWEEN ?1 AND ?2 AND first_row <= ?3"
       " AND first_row + num_rows > ?3 LIMIT 1"},
      {&erase_results_,
       "DELETE FROM results WHERE key IN"
       " (SELECT key FROM results WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?)"},
      {&load_in_flight_, "SELECT key, tokens, crashes, run FROM in_flight ORDER BY key"},
      {&put_in_flight_,
       "INSERT OR REPLACE INTO in_flight(key, tokens, crashes, run) VALUES(?,?,?,?)"},
      {&erase_in_flight_, "DELETE FROM in_flight WHERE key = ?"},
      {&get_meta_, "SELECT value FROM meta WHERE name = ?"},
      {&put_meta_, "INSERT OR REPLACE INTO meta(name, value) VALUES(?,?)"},
  };
  for (const auto& [statement, sql] : statements) {
    ASSIGN_OR_RETURN(*statement, database_.Prepare(sql));
  }
  return absl::OkStatus();
}

absl::Status Tables::LoadJobs(const std::function<void(JobEntry, bool)>& each) {
  load_jobs_.Start();
  while (true) {
    ASSIGN_OR_RETURN(const bool more, load_jobs_.Next());
    if (!more) return absl::OkStatus();
    each(EntryOf(load_jobs_), load_jobs_.Int(1) != 0);
  }
}

absl::Status Tables::PutJob(const JobEntry& entry) {
  const v1::BatchJob& job = entry.job;
  const std::string spec = SpecOf(job);
  const std::string error = job.has_error() ? job.error().SerializeAsString() : "";
  return put_job_.Run(
      entry.serial, SqlText{job.job_id()}, SqlText{entry.request_id}, absl::string_view(spec),
      int64_t{Crc32c(spec)}, int64_t{job.state()}, static_cast<int64_t>(entry.ending),
      entry.seal_order, entry.next_row, job.num_rows(), entry.num_refused, job.num_succeeded(),
      job.num_failed(), job.num_cancelled(), entry.queued_tokens, job.prompt_tokens(),
      job.generated_tokens(), ToMicros(job.create_time()),
      job.has_start_time() ? ToMicros(job.start_time()) : 0,
      job.has_end_time() ? ToMicros(job.end_time()) : 0, absl::string_view(error),
      job.shared_prompt_tokens(), entry.estimated_output_tokens,
      job.has_estimated_end_time() ? ToMicros(job.estimated_end_time()) : 0, entry.row_bytes);
}

absl::Status Tables::MarkDeleted(int64_t serial) { return mark_deleted_.Run(serial); }
absl::Status Tables::EraseJob(int64_t serial) { return erase_job_.Run(serial); }

absl::Status Tables::InsertChunk(int64_t serial, const EncodedChunk& chunk) {
  return insert_chunk_.Run(StoreKey(serial, chunk.first_row), chunk.num_rows, chunk.num_refused,
                           absl::string_view(chunk.index), absl::string_view(chunk.payload));
}

absl::StatusOr<std::vector<ChunkHead>> Tables::ChunkHeads(int64_t serial, int64_t row,
                                                          int64_t limit) {
  // The chunk that holds `row` may begin before it.
  chunk_at_.Start(StoreKey(serial, row));
  RETURN_IF_ERROR(chunk_at_.Next().status());
  const int64_t first_key = chunk_at_.Int(0);
  chunk_at_.Reset();
  std::vector<ChunkHead> heads;
  chunk_heads_.Start(std::max(first_key, StoreKey(serial, 0)), StoreKey(serial, kMaxRowsPerJob),
                     limit);
  while (true) {
    ASSIGN_OR_RETURN(const bool more, chunk_heads_.Next());
    if (!more) return heads;
    heads.push_back({KeyIndex(chunk_heads_.Int(0)), chunk_heads_.Int(1), chunk_heads_.Int(2),
                     std::string(chunk_heads_.Bytes(3))});
  }
}

absl::StatusOr<int64_t> Tables::EraseChunks(int64_t serial, int64_t limit) {
  RETURN_IF_ERROR(erase_chunks_.Run(StoreKey(serial, 0), StoreKey(serial, kMaxRowsPerJob), limit));
  return database_.num_changes();
}

absl::Status Tables::InsertResult(int64_t serial, const ResultRecord& record) {
  return insert_result_.Run(StoreKey(serial, record.sequence), record.first_row, record.num_rows,
                            int64_t{record.is_template}, int64_t{Crc32c(record.payload)},
                            record.payload);
}

absl::StatusOr<bool> Tables::HasResult(int64_t serial, int64_t row) {
  has_result_.Start(StoreKey(serial, 0), StoreKey(serial, kMaxRowsPerJob), row);
  ASSIGN_OR_RETURN(const bool found, has_result_.Next());
  has_result_.Reset();
  return found;
}

absl::StatusOr<int64_t> Tables::EraseResults(int64_t serial, int64_t limit) {
  RETURN_IF_ERROR(erase_results_.Run(StoreKey(serial, 0), StoreKey(serial, kMaxRowsPerJob), limit));
  return database_.num_changes();
}

absl::Status Tables::LoadInFlight(
    const std::function<void(int64_t, int64_t, InFlightRow, int64_t)>& each) {
  load_in_flight_.Start();
  while (true) {
    ASSIGN_OR_RETURN(const bool more, load_in_flight_.Next());
    if (!more) return absl::OkStatus();
    const int64_t key = load_in_flight_.Int(0);
    each(KeySerial(key), KeyIndex(key),
         {load_in_flight_.Int(1), static_cast<int32_t>(load_in_flight_.Int(2)), false},
         load_in_flight_.Int(3));
  }
}

absl::Status Tables::PutInFlight(int64_t serial, int64_t row, const InFlightRow& in_flight,
                                 int64_t run) {
  return put_in_flight_.Run(StoreKey(serial, row), in_flight.prompt_tokens,
                            int64_t{in_flight.crashes}, run);
}

absl::Status Tables::EraseInFlight(int64_t serial, int64_t row) {
  return erase_in_flight_.Run(StoreKey(serial, row));
}

absl::StatusOr<int64_t> Tables::GetMeta(absl::string_view name) {
  get_meta_.Start(SqlText{name});
  ASSIGN_OR_RETURN(const bool found, get_meta_.Next());
  const int64_t value = found ? get_meta_.Int(0) : 0;
  get_meta_.Reset();
  return value;
}

absl::Status Tables::PutMeta(absl::string_view name, int64_t value) {
  return put_meta_.Run(SqlText{name}, value);
}

}  // namespace moelight
