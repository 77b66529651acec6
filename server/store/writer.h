// Writer: the one thread that changes the database, and the bounded queue before it.
//
// It takes whatever has gathered, applies it in one transaction together with a piece of background
// work, commits (fsync), publishes, and then calls the mutations' callbacks. While one commit waits
// for the disk the next group gathers, so the number of fsyncs falls as the load rises.
//
// Threads: Submit is thread-safe and never blocks. Callbacks, publishing and on_fatal run on the
// writer thread. Destroy from another thread: it commits what is queued first.
// Owns: the queue. Borrows database, ledger, board and subscriptions.
// Errors: see Submit. After the first failed statement, commit or checkpoint everything queued and
// everything submitted later fails with Unavailable and nothing is written any more.
#ifndef MOELIGHT_SERVER_STORE_WRITER_H_
#define MOELIGHT_SERVER_STORE_WRITER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "engine/base/logger.h"
#include "engine/base/mutex.h"
#include "server/sqlite.h"
#include "server/store/job_board.h"
#include "server/store/ledger.h"
#include "server/store/subscriptions.h"

namespace moelight {

// A change waiting for its turn.
class Mutation {
 public:
  explicit Mutation(int64_t bytes) : bytes_(bytes) {}
  virtual ~Mutation() = default;
  virtual void Apply(Ledger& ledger) = 0;
  // Tells the outcome: that of Apply if `committed`, else the error.
  virtual void Finish(const absl::Status& committed) = 0;
  int64_t bytes() const { return bytes_; }  // of the payload it holds

 private:
  const int64_t bytes_;
};

template <typename T>
class TypedMutation : public Mutation {
 public:
  using Run = std::function<absl::StatusOr<T>(Ledger&)>;
  TypedMutation(int64_t bytes, Run run, std::function<void(absl::StatusOr<T>)> done)
      : Mutation(bytes), run_(std::move(run)), done_(std::move(done)) {}
  void Apply(Ledger& ledger) override { outcome_ = run_(ledger); }
  void Finish(const absl::Status& committed) override {
    if (committed.ok()) {
      done_(*std::move(outcome_));
    } else {
      done_(committed);
    }
  }

 private:
  Run run_;
  std::function<void(absl::StatusOr<T>)> done_;
  std::optional<absl::StatusOr<T>> outcome_;
};

struct WriterOptions {
  int32_t max_queued_mutations = 0;
  int64_t max_queued_bytes = 0;
  std::function<void(absl::Status)> on_fatal;
  std::function<void(double seconds)> on_commit;
};

class Writer {
 public:
  Writer(WriterOptions options, Database& database, Ledger& ledger, JobBoard& board,
         Subscriptions& subscriptions, Logger& logger);
  ~Writer();

  // kBounded is refused when the queue is full (ResourceExhausted, RetryInfo); kAlways is for
  // mutations whose number is bounded elsewhere. A refusal is told through Finish, at once.
  enum class Admission { kBounded, kAlways };
  void Submit(std::unique_ptr<Mutation> mutation, Admission admission);

  int64_t num_queued() const;

 private:
  using Group = std::vector<std::unique_ptr<Mutation>>;

  void Run();
  // Waits for work; false when stopping and nothing is left.
  bool TakeGroup(Group& group);
  absl::Status CommitGroup(Group& group);
  absl::Status ApplyGroup(Group& group);
  absl::Status CheckpointIfLarge();
  void Release(int64_t bytes);
  void Fail(const absl::Status& reason, Group& group);

  const WriterOptions options_;
  Database& database_;
  Ledger& ledger_;
  JobBoard& board_;
  Subscriptions& subscriptions_;
  Logger& logger_;

  mutable Mutex mutex_;
  CondVar work_;
  std::deque<std::unique_ptr<Mutation>> queue_ ABSL_GUARDED_BY(mutex_);
  int64_t held_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of mutations queued or being committed
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status ended_ ABSL_GUARDED_BY(mutex_);  // not OK: refuses everything with this
  std::thread thread_;                          // last: uses all of the above
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_WRITER_H_
