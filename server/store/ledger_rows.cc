// Ledger: rows on their way in, to the engine and back.
#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "server/store/ledger.h"
#include "server/store/schema.h"
#include "server/store/store_errors.h"
#include "server/store/timestamps.h"

namespace moelight {
namespace {

// Heads are small; this many are read at once when rows must be looked over.
constexpr int64_t kHeadsPerQuery = 256;

}  // namespace

absl::StatusOr<AppendOutcome> Ledger::Append(const std::string& job_id, int64_t first_row,
                                             const std::vector<EncodedRow>& rows) {
  ASSIGN_OR_RETURN(JobEntry * entry, Find(job_id));
  const int64_t num_rows = entry->job.num_rows();
  if (first_row < 0) {
    return absl::InvalidArgumentError(absl::StrCat("first_row: is ", first_row, ", must be >= 0"));
  }
  if (first_row > num_rows) {
    return absl::OutOfRangeError(absl::StrCat("first_row: is ", first_row, ", but ", job_id,
                                              " has ", num_rows, " rows; the expected offset is ",
                                              num_rows));
  }
  const size_t num_repeats = std::min(rows.size(), static_cast<size_t>(num_rows - first_row));
  RETURN_IF_ERROR(CompareRows(*entry, first_row, rows, num_repeats));
  if (num_repeats < rows.size()) {
    if (entry->job.state() != v1::BatchJob::STATE_ACCEPTING) {
      return absl::FailedPreconditionError(
          absl::StrCat(job_id, " is in ", v1::BatchJob::State_Name(entry->job.state()),
                       ", only an accepting job takes rows"));
    }
    RETURN_IF_ERROR(CheckAppendLimits(*entry, first_row, rows, num_repeats));
    RETURN_IF_ERROR(InsertRows(*entry, rows, num_repeats));
  }
  return AppendOutcome{entry->job.num_rows()};
}

absl::Status Ledger::CompareRows(const JobEntry& entry, int64_t first_row,
                                 const std::vector<EncodedRow>& rows, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const int64_t row = first_row + static_cast<int64_t>(i);
    ASSIGN_OR_RETURN(const RowView stored,
                     row_reader_->Read(entry.serial, entry.job.job_id(), row));
    if (stored.request != rows[i].request) {
      return absl::AlreadyExistsError(absl::StrCat("requests[", i, "]: row ", row, " of ",
                                                   entry.job.job_id(),
                                                   " is stored already, with other content"));
    }
  }
  return absl::OkStatus();
}

absl::Status Ledger::CheckAppendLimits(const JobEntry& entry, int64_t first_row,
                                       const std::vector<EncodedRow>& rows, size_t begin) const {
  const JobStoreLimits& limits = options_.limits;
  const std::string& job_id = entry.job.job_id();
  const int64_t total = first_row + static_cast<int64_t>(rows.size());
  if (total > limits.rows_per_job) {
    return LimitError({"server.limits.rows_per_job", limits.rows_per_job, total, job_id});
  }
  ClientUse added;
  for (size_t i = begin; i < rows.size(); ++i) {
    const int64_t bytes = static_cast<int64_t>(rows[i].request.size());
    if (bytes > limits.row_bytes) {
      return LimitError({"server.limits.row_bytes", limits.row_bytes, bytes,
                         absl::StrCat(job_id, " row ", first_row + static_cast<int64_t>(i))});
    }
    added.stored_bytes += bytes;
    if (!rows[i].refusal.empty()) continue;
    ++added.queued_rows;
    added.queued_tokens += rows[i].prompt_tokens;
  }
  RETURN_IF_ERROR(CheckClientQuota(entry, added));
  if (queued_rows_ + added.queued_rows > limits.queued_rows) {
    return LimitError({"server.limits.queued_rows", limits.queued_rows,
                       queued_rows_ + added.queued_rows, "all jobs", true});
  }
  if (queued_tokens_ + added.queued_tokens > limits.queued_tokens) {
    return LimitError({"server.limits.queued_tokens", limits.queued_tokens,
                       queued_tokens_ + added.queued_tokens, "all jobs", true});
  }
  return absl::OkStatus();
}

absl::Status Ledger::CheckClientQuota(const JobEntry& entry, const ClientUse& added) const {
  const std::string& client = entry.job.client();
  const auto quota = options_.limits.clients.find(client);
  if (quota == options_.limits.clients.end()) return absl::OkStatus();
  const auto found = use_of_client_.find(client);
  const ClientUse use = found == use_of_client_.end() ? ClientUse() : found->second;
  const struct {
    absl::string_view name;
    int64_t limit;
    int64_t value;
    bool passes;
  } rows[] = {
      {"queued_rows", quota->second.queued_rows, use.queued_rows + added.queued_rows, true},
      {"queued_tokens", quota->second.queued_tokens, use.queued_tokens + added.queued_tokens, true},
      // Falls only when jobs are removed.
      {"stored_bytes", quota->second.stored_bytes, use.stored_bytes + added.stored_bytes, false},
  };
  for (const auto& row : rows) {
    if (row.limit == 0 || row.value <= row.limit) continue;
    return LimitError({absl::StrCat("the quota ", row.name), row.limit, row.value,
                       absl::StrCat("tenant ", client), row.passes});
  }
  return absl::OkStatus();
}

absl::Status Ledger::InsertRows(JobEntry& entry, const std::vector<EncodedRow>& rows,
                                size_t begin) {
  v1::BatchJob& job = entry.job;
  for (const EncodedChunk& chunk : EncodeChunks(rows, begin, job.num_rows())) {
    RETURN_IF_ERROR(tables_->InsertChunk(entry.serial, chunk));
  }
  for (size_t i = begin; i < rows.size(); ++i) {
    const int64_t row = job.num_rows();
    job.set_num_rows(row + 1);
    AddBytes(entry, static_cast<int64_t>(rows[i].request.size()));
    if (rows[i].refusal.empty()) {
      AddQueued(entry, 1, rows[i].prompt_tokens);
      entry.estimated_output_tokens += rows[i].output_tokens;
      continue;
    }
    ResultRecord record;
    record.sequence = entry.num_results();
    record.first_row = row;
    record.payload = rows[i].refusal;
    RETURN_IF_ERROR(tables_->InsertResult(entry.serial, record));
    ++entry.num_refused;
    job.set_num_failed(job.num_failed() + 1);
  }
  Touch(entry);
  return absl::OkStatus();
}

absl::Status Ledger::MarkInFlight(std::vector<PendingRow>& rows) {
  std::vector<PendingRow> marked;
  marked.reserve(rows.size());
  for (PendingRow& row : rows) {
    ASSIGN_OR_RETURN(const bool runs, MarkRow(row));
    if (runs) marked.push_back(std::move(row));
  }
  rows = std::move(marked);
  return absl::OkStatus();
}

absl::StatusOr<bool> Ledger::MarkRow(const PendingRow& row) {
  const auto serial = serial_of_id_.find(row.job_id);
  if (serial == serial_of_id_.end()) return false;
  JobEntry& entry = jobs_.at(serial->second);
  if (!entry.runnable()) return false;

  const auto requeued = entry.in_flight.find(row.row);
  if (requeued != entry.in_flight.end()) {
    if (requeued->second.running) return false;
    requeued->second.running = true;
  } else {
    if (row.row < entry.next_row || row.row >= entry.job.num_rows()) return false;
    ASSIGN_OR_RETURN(const bool all_refused, AllRefused(entry, entry.next_row, row.row));
    CHECK(all_refused) << row.job_id << " rows " << entry.next_row << " to " << row.row - 1
                       << " would be passed over and lost";
    entry.next_row = row.row + 1;
    Touch(entry);
    // A damaged chunk cannot tell which of its rows were refused; their records can.
    if (!row.status.ok() && entry.num_refused > 0) {
      ASSIGN_OR_RETURN(const bool refused, tables_->HasResult(entry.serial, row.row));
      if (refused) return false;
    }
    entry.in_flight[row.row] = {row.estimated_prompt_tokens, 0, true};
  }
  RETURN_IF_ERROR(tables_->PutInFlight(entry.serial, row.row, entry.in_flight.at(row.row), run_));
  Touch(entry);
  if (entry.job.state() == v1::BatchJob::STATE_QUEUED) {
    entry.job.set_state(v1::BatchJob::STATE_RUNNING);
    *entry.job.mutable_start_time() = CurrentTimestamp();
  }
  return true;
}

// Whether all of these rows were refused at append. Rows of a damaged chunk that may be count as
// refused.
absl::StatusOr<bool> Ledger::AllRefused(const JobEntry& entry, int64_t begin, int64_t end) {
  while (begin < end) {
    ASSIGN_OR_RETURN(const std::vector<ChunkHead> heads,
                     tables_->ChunkHeads(entry.serial, begin, kHeadsPerQuery));
    if (heads.empty()) return false;
    for (const ChunkHead& head : heads) {
      if (begin >= end) break;
      const int64_t stop = std::min(end, head.first_row + head.num_rows);
      if (head.num_refused == 0 && begin < stop) return false;
      if (!head.index.empty()) {
        const absl::StatusOr<std::vector<bool>> refused = RefusedFlags(head.index, head.num_rows);
        for (int64_t row = begin; refused.ok() && row < stop; ++row) {
          if (!(*refused)[row - head.first_row]) return false;
        }
      }
      begin = std::max(begin, stop);
    }
  }
  return true;
}

absl::Status Ledger::RecordResult(const std::string& job_id, const FinishedRow& finished) {
  ASSIGN_OR_RETURN(JobEntry * entry, Find(job_id));
  const auto in_flight = entry->in_flight.find(finished.row);
  if (in_flight == entry->in_flight.end()) {
    if (finished.row < 0 || finished.row >= entry->next_row) {
      return absl::FailedPreconditionError(
          absl::StrCat(job_id, " row ", finished.row, " was not marked in flight"));
    }
    logger_.Warning("second_result_dropped", {{"job", job_id}, {"row", finished.row}});
    return absl::OkStatus();
  }
  AddQueued(*entry, -1, -in_flight->second.prompt_tokens);
  entry->in_flight.erase(in_flight);
  RETURN_IF_ERROR(tables_->EraseInFlight(entry->serial, finished.row));
  Touch(*entry);

  v1::BatchJob& job = entry->job;
  const bool cancelled = finished.error_code == static_cast<int>(absl::StatusCode::kCancelled);
  if (cancelled && entry->ending != Ending::kNone) {
    RETURN_IF_ERROR(EndRows(*entry, finished.row, 1));
  } else {
    ResultRecord record;
    record.sequence = entry->num_results();
    record.first_row = finished.row;
    record.payload = finished.payload;
    RETURN_IF_ERROR(tables_->InsertResult(entry->serial, record));
    if (finished.error_code == 0) {
      job.set_num_succeeded(job.num_succeeded() + 1);
    } else {
      job.set_num_failed(job.num_failed() + 1);
    }
  }
  job.set_prompt_tokens(job.prompt_tokens() + finished.prompt_tokens);
  job.set_generated_tokens(job.generated_tokens() + finished.generated_tokens);
  job.set_shared_prompt_tokens(job.shared_prompt_tokens() + finished.shared_prompt_tokens);
  FinishIfDone(*entry);
  return absl::OkStatus();
}

}  // namespace moelight
