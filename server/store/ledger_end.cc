// Ledger: opening after an earlier process, ending jobs before their time, removing them.
#include <algorithm>
#include <tuple>
#include <utility>

#include <absl/strings/str_cat.h>
#include <google/protobuf/util/time_util.h>

#include "engine/base/status_macros.h"
#include "server/store/ledger.h"
#include "server/store/store_errors.h"
#include "server/store/timestamps.h"

namespace moelight {
namespace {

using google::protobuf::util::TimeUtil;

// A row that was in the batch at this many crashes is not run again.
constexpr int32_t kMaxCrashes = 3;

// Pieces of background work per transaction: a few milliseconds each, so that an append or a result
// never waits longer than that for a cancelled or deleted million-row job.
constexpr int64_t kEndChunksPerStep = 256;
constexpr int64_t kPurgeChunksPerStep = 32;
constexpr int64_t kPurgeResultsPerStep = 1024;

// What a row of a job that is being ended gets, without row and custom_id.
std::string EndingPayload(const v1::BatchJob& job, Ending ending) {
  v1::BatchResult result;
  *result.mutable_error() =
      ending == Ending::kExpire
          ? RowError(absl::StatusCode::kDeadlineExceeded,
                     absl::StrCat("the job's expire_time, ", TimeUtil::ToString(job.expire_time()),
                                  ", passed before this row was done"),
                     "JOB_EXPIRED")
          : RowError(absl::StatusCode::kCancelled, "the job was cancelled", "JOB_CANCELLED");
  return result.SerializeAsString();
}

std::string QuarantinePayload() {
  v1::BatchResult result;
  *result.mutable_error() = RowError(absl::StatusCode::kInternal,
                                     absl::StrCat("quarantined: this row was in the batch at ",
                                                  kMaxCrashes, " crashes of the server"),
                                     "ROW_QUARANTINED");
  return result.SerializeAsString();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ledger>> Ledger::Open(const LedgerOptions& options,
                                                     Database& database, int64_t crash_id,
                                                     Logger& logger) {
  std::unique_ptr<Ledger> ledger(new Ledger(options, database, logger));
  ASSIGN_OR_RETURN(ledger->tables_, Tables::Create(database));
  ASSIGN_OR_RETURN(ledger->row_reader_, RowReader::Create(database));
  RETURN_IF_ERROR(ledger->Begin());
  RETURN_IF_ERROR(ledger->Load(crash_id));
  RETURN_IF_ERROR(ledger->Commit().status());
  return ledger;
}

absl::Status Ledger::Load(int64_t crash_id) {
  ASSIGN_OR_RETURN(const int64_t last_run, tables_->GetMeta("run"));
  run_ = last_run + 1;
  RETURN_IF_ERROR(tables_->PutMeta("run", run_));
  ASSIGN_OR_RETURN(const int64_t counted_crash, tables_->GetMeta("crash_id"));
  const bool crashed = crash_id != 0 && crash_id != counted_crash;
  if (crashed) RETURN_IF_ERROR(tables_->PutMeta("crash_id", crash_id));

  RETURN_IF_ERROR(tables_->LoadJobs([this](JobEntry entry, bool deleted) {
    const int64_t serial = entry.serial;
    next_serial_ = serial + 1;
    if (deleted) {
      purging_.push_back(serial);
      return;
    }
    next_seal_order_ = std::max(next_seal_order_, entry.seal_order + 1);
    serial_of_id_[entry.job.job_id()] = serial;
    IndexRequest(entry);
    // Only a job whose record is damaged has an error; that it failed was found just now.
    if (entry.job.has_error()) dirty_.insert(serial);
    jobs_.emplace(serial, std::move(entry));
  }));
  RETURN_IF_ERROR(LoadInFlight(crashed, last_run));
  for (auto& [serial, entry] : jobs_) {
    // The stored sum of tokens counts for jobs that still run; in the others nothing is queued.
    const int64_t tokens = std::exchange(entry.queued_tokens, 0);
    AddBytes(entry, std::exchange(entry.row_bytes, 0));
    if (entry.job.state() == v1::BatchJob::STATE_CANCELLING) {
      RETURN_IF_ERROR(EndRequeuedRows(entry));
      ending_.push_back(serial);
    } else if (!entry.ended()) {
      AddQueued(entry, entry.num_open(), tokens);
    }
    SetDeadline(entry);
    FinishIfDone(entry);
  }
  return absl::OkStatus();
}

absl::Status Ledger::LoadInFlight(bool crashed, int64_t last_run) {
  std::vector<std::tuple<int64_t, int64_t, InFlightRow, int64_t>> rows;
  RETURN_IF_ERROR(tables_->LoadInFlight(
      [&rows](int64_t serial, int64_t row, InFlightRow in_flight, int64_t run) {
        rows.emplace_back(serial, row, in_flight, run);
      }));
  for (auto& [serial, row, in_flight, run] : rows) {
    const auto found = jobs_.find(serial);
    if (found == jobs_.end() || found->second.ended()) {
      RETURN_IF_ERROR(tables_->EraseInFlight(serial, row));
      continue;
    }
    JobEntry& entry = found->second;
    // Rows of earlier runs that the crashed process had not handed out again are not suspects.
    const bool suspect = crashed && run == last_run;
    if (suspect) ++in_flight.crashes;
    if (in_flight.crashes >= kMaxCrashes) {
      entry.queued_tokens -= in_flight.prompt_tokens;
      RETURN_IF_ERROR(Quarantine(entry, row));
      continue;
    }
    if (suspect) RETURN_IF_ERROR(tables_->PutInFlight(serial, row, in_flight, run));
    entry.in_flight[row] = in_flight;
  }
  return absl::OkStatus();
}

absl::Status Ledger::Quarantine(JobEntry& entry, int64_t row) {
  const std::string payload = QuarantinePayload();
  ResultRecord record;
  record.sequence = entry.num_results();
  record.first_row = row;
  record.is_template = true;
  record.payload = payload;
  RETURN_IF_ERROR(tables_->InsertResult(entry.serial, record));
  RETURN_IF_ERROR(tables_->EraseInFlight(entry.serial, row));
  entry.job.set_num_failed(entry.job.num_failed() + 1);
  Touch(entry);
  logger_.Error("row_quarantined",
                {{"job", entry.job.job_id()}, {"row", row}, {"crashes", kMaxCrashes}});
  return absl::OkStatus();
}

absl::Status Ledger::StartEnding(JobEntry& entry, Ending ending) {
  entry.ending = ending;
  entry.job.set_state(v1::BatchJob::STATE_CANCELLING);
  SetDeadline(entry);
  Touch(entry);
  RETURN_IF_ERROR(EndRequeuedRows(entry));
  // From here on only what the engine holds counts as queued.
  int64_t running_tokens = 0;
  for (const auto& [row, in_flight] : entry.in_flight) running_tokens += in_flight.prompt_tokens;
  AddQueued(entry, static_cast<int64_t>(entry.in_flight.size()) - entry.queued_rows,
            running_tokens - entry.queued_tokens);
  RETURN_IF_ERROR(EndWaitingRows(entry));
  if (entry.next_row < entry.job.num_rows()) ending_.push_back(entry.serial);
  FinishIfDone(entry);
  return absl::OkStatus();
}

// Rows that an earlier process had in flight and that this one has not handed out.
absl::Status Ledger::EndRequeuedRows(JobEntry& entry) {
  for (auto it = entry.in_flight.begin(); it != entry.in_flight.end();) {
    if (it->second.running) {
      ++it;
      continue;
    }
    RETURN_IF_ERROR(tables_->EraseInFlight(entry.serial, it->first));
    RETURN_IF_ERROR(EndRows(entry, it->first, 1));
    it = entry.in_flight.erase(it);
  }
  return absl::OkStatus();
}

// One record stands for a run of rows, so a million rows end in one small transaction unless
// refused rows, which have records, lie between them.
absl::Status Ledger::EndWaitingRows(JobEntry& entry) {
  const int64_t num_rows = entry.job.num_rows();
  if (entry.next_row == num_rows) return absl::OkStatus();
  if (entry.num_refused == 0) {
    RETURN_IF_ERROR(EndRows(entry, entry.next_row, num_rows - entry.next_row));
    entry.next_row = num_rows;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::vector<ChunkHead> heads,
                   tables_->ChunkHeads(entry.serial, entry.next_row, kEndChunksPerStep));
  if (heads.empty()) {
    return absl::DataLossError(absl::StrCat(database_.path(), ": ", entry.job.job_id(),
                                            " has no stored rows from ", entry.next_row, " on"));
  }
  for (const ChunkHead& head : heads) {
    absl::StatusOr<std::vector<bool>> refused =
        head.index.empty() ? std::vector<bool>(head.num_rows, head.num_refused > 0)
                           : RefusedFlags(head.index, head.num_rows);
    const int64_t end = head.first_row + head.num_rows;
    int64_t run_begin = entry.next_row;
    for (int64_t row = entry.next_row; row < end; ++row) {
      bool has_record = refused.ok() && (*refused)[row - head.first_row];
      if (!refused.ok()) {
        ASSIGN_OR_RETURN(has_record, tables_->HasResult(entry.serial, row));
      }
      if (!has_record) continue;
      RETURN_IF_ERROR(EndRows(entry, run_begin, row - run_begin));
      run_begin = row + 1;
    }
    RETURN_IF_ERROR(EndRows(entry, run_begin, end - run_begin));
    entry.next_row = std::max(entry.next_row, end);
  }
  return absl::OkStatus();
}

absl::Status Ledger::EndRows(JobEntry& entry, int64_t first_row, int64_t num_rows) {
  if (num_rows <= 0) return absl::OkStatus();
  const std::string payload = EndingPayload(entry.job, entry.ending);
  ResultRecord record;
  record.sequence = entry.num_results();
  record.first_row = first_row;
  record.num_rows = num_rows;
  record.is_template = true;
  record.payload = payload;
  RETURN_IF_ERROR(tables_->InsertResult(entry.serial, record));
  entry.job.set_num_cancelled(entry.job.num_cancelled() + num_rows);
  Touch(entry);
  return absl::OkStatus();
}

void Ledger::FinishIfDone(JobEntry& entry) {
  const bool closed = entry.seal_order != 0 || entry.ending != Ending::kNone;
  if (entry.ended() || !closed || entry.num_open() > 0) return;
  switch (entry.ending) {
    case Ending::kNone:
      entry.job.set_state(v1::BatchJob::STATE_SUCCEEDED);
      break;
    case Ending::kCancel:
      entry.job.set_state(v1::BatchJob::STATE_CANCELLED);
      break;
    case Ending::kExpire:
      entry.job.set_state(v1::BatchJob::STATE_EXPIRED);
      break;
  }
  *entry.job.mutable_end_time() = CurrentTimestamp();
  AddQueued(entry, -entry.queued_rows, -entry.queued_tokens);
  Touch(entry);
  SetDeadline(entry);
}

absl::Status Ledger::BackgroundStep() {
  if (!ending_.empty()) {
    const int64_t serial = ending_.front();
    ending_.pop_front();
    const auto found = jobs_.find(serial);
    // Its last row in flight may have ended the job, and a client deleted it, in the meantime.
    if (found != jobs_.end() && !found->second.ended()) {
      RETURN_IF_ERROR(EndWaitingRows(found->second));
      // To the back of the line: several jobs end side by side.
      if (found->second.next_row < found->second.job.num_rows()) ending_.push_back(serial);
      FinishIfDone(found->second);
    }
  }
  return purging_.empty() ? absl::OkStatus() : PurgeStep();
}

absl::Status Ledger::PurgeStep() {
  const int64_t serial = purging_.front();
  ASSIGN_OR_RETURN(const int64_t num_chunks, tables_->EraseChunks(serial, kPurgeChunksPerStep));
  if (num_chunks == kPurgeChunksPerStep) return absl::OkStatus();
  ASSIGN_OR_RETURN(const int64_t num_results, tables_->EraseResults(serial, kPurgeResultsPerStep));
  if (num_results == kPurgeResultsPerStep) return absl::OkStatus();
  RETURN_IF_ERROR(tables_->EraseJob(serial));
  purging_.pop_front();
  return absl::OkStatus();
}

}  // namespace moelight
