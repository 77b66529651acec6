#include "server/store/ledger.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "server/store/fair_shares.h"
#include "server/store/schema.h"
#include "server/store/store_errors.h"
#include "server/store/timestamps.h"

namespace moelight {
namespace {

constexpr int kJobIdLetters = 16;
// The first answers that come are the shortest; from this many on their mean beats the estimate.
constexpr int64_t kEnoughAnswers = 100;
// A century: what is later cannot be written as a timestamp at some point.
constexpr double kLongestEstimateSeconds = 100.0 * 365 * 24 * 3600;

JobSnapshotPtr SnapshotOf(const JobEntry& entry) {
  auto snapshot = std::make_shared<JobSnapshot>();
  snapshot->job = entry.job;
  snapshot->serial = entry.serial;
  snapshot->seal_order = entry.seal_order;
  snapshot->next_row = entry.next_row;
  snapshot->queued_rows = entry.queued_rows;
  snapshot->queued_tokens = entry.queued_tokens;
  snapshot->runnable = entry.runnable();
  snapshot->ended = entry.ended();
  for (const auto& [row, in_flight] : entry.in_flight) {
    if (in_flight.running) {
      ++snapshot->num_in_flight;
    } else {
      snapshot->requeued.push_back({row, in_flight.crashes});
    }
  }
  return snapshot;
}

// Prompt and answer tokens of the rows without a record.
double OpenTokens(const JobEntry& entry) {
  const v1::BatchJob& job = entry.job;
  const int64_t num_good = job.num_rows() - entry.num_refused;
  const double output_per_row =
      job.num_succeeded() >= kEnoughAnswers
          ? static_cast<double>(job.generated_tokens()) / static_cast<double>(job.num_succeeded())
          : static_cast<double>(entry.estimated_output_tokens) /
                static_cast<double>(std::max<int64_t>(1, num_good));
  return static_cast<double>(entry.queued_tokens) +
         output_per_row * static_cast<double>(entry.queued_rows);
}

// Clients choose their request ids without knowing each other's.
std::string RequestKey(const v1::BatchJob& job, const std::string& request_id) {
  return absl::StrCat(job.client().size(), ":", job.client(), request_id);
}

absl::Status StateError(const JobEntry& entry, absl::string_view wanted) {
  return absl::FailedPreconditionError(absl::StrCat(
      entry.job.job_id(), " is in ", v1::BatchJob::State_Name(entry.job.state()), ", ", wanted));
}

}  // namespace

absl::StatusOr<BoardChange> Ledger::Commit() {
  for (const int64_t serial : dirty_) {
    RETURN_IF_ERROR(tables_->PutJob(jobs_.at(serial)));
  }
  RETURN_IF_ERROR(tables_->Commit());
  BoardChange change;
  for (const int64_t serial : dirty_) change.updated.push_back(SnapshotOf(jobs_.at(serial)));
  change.removed = std::exchange(removed_, {});
  dirty_.clear();
  return change;
}

BoardChange Ledger::Everything() const {
  BoardChange change;
  for (const auto& [serial, entry] : jobs_) change.updated.push_back(SnapshotOf(entry));
  return change;
}

absl::StatusOr<JobEntry*> Ledger::Find(const std::string& job_id) {
  const auto found = serial_of_id_.find(job_id);
  if (found == serial_of_id_.end()) {
    return NoJobError(job_id);
  }
  return &jobs_.at(found->second);
}

std::string Ledger::NewJobId() {
  // Letters and digits that people do not mix up; 16 of 32 are 80 bits.
  constexpr absl::string_view kAlphabet = "abcdefghijkmnpqrstuvwxyz23456789";
  static_assert(kAlphabet.size() == 32);
  while (true) {
    std::string id = "job-";
    for (int i = 0; i < kJobIdLetters; ++i) {
      id += kAlphabet[absl::Uniform<size_t>(random_, 0, kAlphabet.size())];
    }
    if (!serial_of_id_.contains(id)) return id;
  }
}

void Ledger::AddQueued(JobEntry& entry, int64_t rows, int64_t tokens) {
  entry.queued_rows += rows;
  entry.queued_tokens += tokens;
  queued_rows_ += rows;
  queued_tokens_ += tokens;
  ClientUse& use = use_of_client_[entry.job.client()];
  use.queued_rows += rows;
  use.queued_tokens += tokens;
}

void Ledger::AddBytes(JobEntry& entry, int64_t bytes) {
  entry.row_bytes += bytes;
  use_of_client_[entry.job.client()].stored_bytes += bytes;
}

void Ledger::IndexRequest(const JobEntry& entry) {
  if (entry.request_id.empty()) return;
  serial_of_request_[RequestKey(entry.job, entry.request_id)] = entry.serial;
}

absl::StatusOr<v1::BatchJob> Ledger::AnswerRepeatedCreate(const v1::CreateBatchJobRequest& request,
                                                          int64_t serial) {
  const v1::BatchJob& job = jobs_.at(serial).job;
  if (SpecOf(request.job()) == SpecOf(job)) return job;
  return absl::AlreadyExistsError(absl::StrCat("request_id: \"", request.request_id(),
                                               "\" was used before, with another job body, for ",
                                               job.job_id()));
}

absl::StatusOr<v1::BatchJob> Ledger::Create(const v1::CreateBatchJobRequest& request) {
  if (!request.request_id().empty()) {
    const auto found = serial_of_request_.find(RequestKey(request.job(), request.request_id()));
    if (found != serial_of_request_.end()) return AnswerRepeatedCreate(request, found->second);
  }
  const int64_t num_jobs = static_cast<int64_t>(jobs_.size());
  if (num_jobs >= options_.limits.jobs) {
    return LimitError({"server.limits.jobs", options_.limits.jobs, num_jobs + 1, "jobs"});
  }
  CHECK_LE(next_serial_, kMaxSerial);
  JobEntry entry;
  const std::string spec = SpecOf(request.job());
  CHECK(entry.job.ParseFromString(spec)) << "our own serialization does not parse";
  entry.job.set_state(v1::BatchJob::STATE_ACCEPTING);
  *entry.job.mutable_create_time() = CurrentTimestamp();
  if (request.validate_only()) return entry.job;

  entry.serial = next_serial_++;
  entry.job.set_job_id(NewJobId());
  entry.request_id = request.request_id();
  serial_of_id_[entry.job.job_id()] = entry.serial;
  IndexRequest(entry);
  const auto [it, inserted] = jobs_.emplace(entry.serial, std::move(entry));
  Touch(it->second);
  SetDeadline(it->second);
  return it->second.job;
}

absl::StatusOr<v1::BatchJob> Ledger::Seal(const std::string& job_id, int64_t expected_rows,
                                          double tokens_per_s) {
  ASSIGN_OR_RETURN(JobEntry * entry, Find(job_id));
  v1::BatchJob& job = entry->job;
  if (expected_rows >= 0 && expected_rows != job.num_rows()) {
    return absl::FailedPreconditionError(absl::StrCat("expected_rows: is ", expected_rows, ", but ",
                                                      job_id, " has ", job.num_rows(), " rows"));
  }
  if (entry->seal_order != 0) return job;
  if (job.state() != v1::BatchJob::STATE_ACCEPTING) {
    return StateError(*entry, "only an accepting job can be sealed");
  }
  entry->seal_order = next_seal_order_++;
  job.set_state(v1::BatchJob::STATE_QUEUED);
  FinishIfDone(*entry);
  if (tokens_per_s > 0 && !entry->ended()) EstimateEnd(*entry, tokens_per_s);
  Touch(*entry);
  return job;
}

void Ledger::EstimateEnd(JobEntry& entry, double tokens_per_s) {
  std::vector<OpenJob> open;
  size_t own = 0;
  for (const auto& [serial, other] : jobs_) {
    if (!other.runnable()) continue;
    if (serial == entry.serial) own = open.size();
    open.push_back({RankOf(other.job, other.seal_order), OpenTokens(other)});
  }
  const double seconds = std::min(
      TokensUntilDone(open, own, options_.client_weights) / tokens_per_s, kLongestEstimateSeconds);
  const int64_t micros = absl::ToInt64Microseconds(absl::Seconds(seconds));
  SetEstimatedEnd(FromMicros(ToMicros(CurrentTimestamp()) + micros), entry.job);
}

absl::StatusOr<v1::BatchJob> Ledger::Cancel(const std::string& job_id) {
  ASSIGN_OR_RETURN(JobEntry * entry, Find(job_id));
  if (!entry->ended() && entry->ending == Ending::kNone) {
    RETURN_IF_ERROR(StartEnding(*entry, Ending::kCancel));
  }
  return entry->job;
}

absl::StatusOr<bool> Ledger::Delete(const std::string& job_id) {
  ASSIGN_OR_RETURN(JobEntry * entry, Find(job_id));
  if (!entry->ended()) return StateError(*entry, "cancel it before deleting it");
  RETURN_IF_ERROR(RemoveJob(*entry));
  return true;
}

absl::Status Ledger::RemoveJob(JobEntry& entry) {
  const int64_t serial = entry.serial;
  RETURN_IF_ERROR(tables_->MarkDeleted(serial));
  removed_.push_back(SnapshotOf(entry));
  row_reader_->Forget();
  serial_of_id_.erase(entry.job.job_id());
  serial_of_request_.erase(RequestKey(entry.job, entry.request_id));
  AddBytes(entry, -entry.row_bytes);
  const auto use = use_of_client_.find(entry.job.client());
  if (use->second.queued_rows == 0 && use->second.stored_bytes == 0) use_of_client_.erase(use);
  dirty_.erase(serial);
  DropDeadline(entry);
  purging_.push_back(serial);
  jobs_.erase(serial);
  return absl::OkStatus();
}

void Ledger::SetDeadline(JobEntry& entry) {
  DropDeadline(entry);
  entry.deadline = absl::InfiniteFuture();
  if (entry.ended()) {
    entry.deadline = ToAbslTime(entry.job.end_time()) + options_.retention;
  } else if (entry.job.has_expire_time() && entry.ending == Ending::kNone) {
    entry.deadline = ToAbslTime(entry.job.expire_time());
  }
  if (entry.deadline != absl::InfiniteFuture()) deadlines_.emplace(entry.deadline, entry.serial);
}

absl::Time Ledger::next_deadline() const {
  return deadlines_.empty() ? absl::InfiniteFuture() : deadlines_.begin()->first;
}

absl::Status Ledger::ApplyDeadlines(absl::Time now) {
  // The rest stays due and gets the next transactions.
  constexpr int kMaxPerTransaction = 64;
  for (int i = 0; i < kMaxPerTransaction && next_deadline() <= now; ++i) {
    JobEntry& entry = jobs_.at(deadlines_.begin()->second);
    if (entry.ended()) {
      RETURN_IF_ERROR(RemoveJob(entry));
    } else {
      RETURN_IF_ERROR(StartEnding(entry, Ending::kExpire));
    }
  }
  return absl::OkStatus();
}

}  // namespace moelight
