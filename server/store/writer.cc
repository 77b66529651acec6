#include "server/store/writer.h"

#include <algorithm>
#include <chrono>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>

#include "engine/base/status_macros.h"
#include "server/store/store_errors.h"

namespace moelight {
namespace {

// A transaction ends at whichever comes first. Large enough that a fsync is shared by many, small
// enough that none waits long and SQLite's page cache holds what was changed.
constexpr size_t kMaxGroupMutations = 1024;
constexpr int64_t kMaxGroupBytes = 4 << 20;

// In pages of 4 KiB: copied back from 16 MiB on; from 64 MiB on readers are waited for, so that a
// long read cannot let the WAL grow without bound.
constexpr int kCheckpointPages = 4096;
constexpr int kTruncatePages = 4 * kCheckpointPages;

// A deadline further away is looked at again after this long, which keeps the sum of clock and
// timeout in range.
constexpr absl::Duration kLongestWait = absl::Hours(24);

}  // namespace

Writer::Writer(WriterOptions options, Database& database, Ledger& ledger, JobBoard& board,
               Subscriptions& subscriptions, Logger& logger)
    : options_(std::move(options)),
      database_(database),
      ledger_(ledger),
      board_(board),
      subscriptions_(subscriptions),
      logger_(logger),
      thread_([this]() { Run(); }) {}

Writer::~Writer() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    if (ended_.ok()) ended_ = absl::UnavailableError("the job store is closing");
  }
  work_.NotifyOne();
  thread_.join();
}

void Writer::Submit(std::unique_ptr<Mutation> mutation, Admission admission) {
  absl::Status refusal;
  {
    MutexLock lock(&mutex_);
    refusal = ended_;
    if (refusal.ok() && admission == Admission::kBounded) {
      // A single mutation larger than the bound passes when nothing else is there.
      if (queue_.size() >= static_cast<size_t>(options_.max_queued_mutations)) {
        refusal = QueueFullError("write queue (changes)", options_.max_queued_mutations);
      } else if (held_bytes_ > 0 && held_bytes_ + mutation->bytes() > options_.max_queued_bytes) {
        refusal = QueueFullError("write queue (bytes)", options_.max_queued_bytes);
      }
    }
    if (refusal.ok()) {
      held_bytes_ += mutation->bytes();
      queue_.push_back(std::move(mutation));
    }
  }
  if (refusal.ok()) {
    work_.NotifyOne();
  } else {
    mutation->Finish(refusal);
  }
}

int64_t Writer::num_queued() const {
  MutexLock lock(&mutex_);
  return static_cast<int64_t>(queue_.size());
}

void Writer::Run() {
  Group group;
  while (TakeGroup(group)) {
    absl::Status status = CommitGroup(group);
    if (status.ok()) status = CheckpointIfLarge();
    if (!status.ok()) {
      Fail(status, group);
      return;
    }
    group.clear();
  }
}

bool Writer::TakeGroup(Group& group) {
  MutexLock lock(&mutex_);
  if (queue_.empty() && !stopping_ && !ledger_.HasBackgroundWork()) {
    const auto has_work = [this]() { return stopping_ || !queue_.empty(); };
    const absl::Time deadline = ledger_.next_deadline();
    if (deadline == absl::InfiniteFuture()) {
      work_.Wait(lock, has_work);
    } else {
      const absl::Duration left = std::min(deadline - absl::Now(), kLongestWait);
      work_.WaitFor(lock, absl::ToChronoNanoseconds(std::max(left, absl::ZeroDuration())),
                    has_work);
    }
  }
  int64_t bytes = 0;
  while (!queue_.empty() && group.size() < kMaxGroupMutations && bytes < kMaxGroupBytes) {
    bytes += queue_.front()->bytes();
    group.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  return !(stopping_ && group.empty());
}

absl::Status Writer::CommitGroup(Group& group) {
  const bool due = ledger_.next_deadline() <= absl::Now();
  if (group.empty() && !due && !ledger_.HasBackgroundWork()) return absl::OkStatus();
  RETURN_IF_ERROR(ledger_.Begin());
  RETURN_IF_ERROR(ApplyGroup(group));
  const auto start = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(const BoardChange change, ledger_.Commit());
  if (options_.on_commit) {
    options_.on_commit(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  // Published first, so that a caller who is told can see it.
  board_.Publish(change);
  int64_t bytes = 0;
  for (std::unique_ptr<Mutation>& mutation : group) {
    bytes += mutation->bytes();
    mutation->Finish(absl::OkStatus());
    mutation.reset();
  }
  group.clear();
  Release(bytes);
  std::vector<std::string> job_ids;
  for (const JobSnapshotPtr& snapshot : change.updated) job_ids.push_back(snapshot->job.job_id());
  for (const JobSnapshotPtr& snapshot : change.removed) job_ids.push_back(snapshot->job.job_id());
  subscriptions_.Notify(job_ids);
  return absl::OkStatus();
}

absl::Status Writer::ApplyGroup(Group& group) {
  for (const std::unique_ptr<Mutation>& mutation : group) {
    mutation->Apply(ledger_);
    // A refused mutation is its caller's affair, a failed statement is everybody's.
    RETURN_IF_ERROR(database_.failure());
  }
  RETURN_IF_ERROR(ledger_.ApplyDeadlines(absl::Now()));
  return ledger_.HasBackgroundWork() ? ledger_.BackgroundStep() : absl::OkStatus();
}

absl::Status Writer::CheckpointIfLarge() {
  const int pages = database_.wal_pages();
  if (pages < kCheckpointPages) return absl::OkStatus();
  return database_.Checkpoint(/*truncate=*/pages >= kTruncatePages);
}

void Writer::Release(int64_t bytes) {
  MutexLock lock(&mutex_);
  held_bytes_ -= bytes;
}

void Writer::Fail(const absl::Status& reason, Group& group) {
  const absl::Status ended = absl::UnavailableError(
      absl::StrCat("the job store has stopped after a failed write: ", reason.message()));
  logger_.Error("job_store_failed", {{"reason", reason.ToString()}});
  std::deque<std::unique_ptr<Mutation>> queue;
  {
    MutexLock lock(&mutex_);
    ended_ = ended;
    queue.swap(queue_);
  }
  for (const std::unique_ptr<Mutation>& mutation : group) mutation->Finish(ended);
  for (const std::unique_ptr<Mutation>& mutation : queue) mutation->Finish(ended);
  if (options_.on_fatal) options_.on_fatal(reason);
}

}  // namespace moelight
