// DispatcherMailbox: what store and engine tell the dispatcher's thread.
//
// Threads: thread-safe; Wait belongs to the dispatcher's thread. Shared by pointer with every
// callback, so that one which comes late finds it alive.
// Bounded: at most one fetch, one mark, and one finish and one record per row in flight are under
// way; the rest are flags.
#ifndef MOELIGHT_SERVER_DISPATCHER_MAILBOX_H_
#define MOELIGHT_SERVER_DISPATCHER_MAILBOX_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "engine/base/mutex.h"
#include "engine/engine.h"
#include "server/job_store.h"

namespace moelight {

// Which row: job and offset.
using RowKey = std::pair<std::string, int64_t>;

struct RowsFetched {
  absl::StatusOr<std::vector<PendingRow>> rows;
};
struct RowsMarked {
  absl::StatusOr<std::vector<PendingRow>> rows;
};
struct RowFinished {
  RowKey key;
  GenerateResult result;
};
struct RowRecorded {
  RowKey key;
  absl::Status status;
};
using DispatcherEvent = std::variant<RowsFetched, RowsMarked, RowFinished, RowRecorded>;

struct DispatcherMail {
  std::vector<DispatcherEvent> events;
  bool store_changed = false;
  bool engine_has_room = false;
  bool stop = false;
  std::function<void()> drained;  // set: drain, then call

  bool empty() const {
    return events.empty() && !store_changed && !engine_has_room && !stop && !drained;
  }
};

class DispatcherMailbox {
 public:
  void Post(DispatcherEvent event) {
    Change([&event](DispatcherMail& mail) { mail.events.push_back(std::move(event)); });
  }
  void PostStoreChanged() {
    Change([](DispatcherMail& mail) { mail.store_changed = true; });
  }
  void PostRoom() {
    Change([](DispatcherMail& mail) { mail.engine_has_room = true; });
  }
  void PostStop() {
    Change([](DispatcherMail& mail) { mail.stop = true; });
  }
  void PostDrain(std::function<void()> drained) {
    Change([&drained](DispatcherMail& mail) { mail.drained = std::move(drained); });
  }

  // Everything since the last call; waits until there is something.
  DispatcherMail Wait() {
    MutexLock lock(&mutex_);
    arrived_.Wait(lock, [this]() { return !mail_.empty(); });
    return std::exchange(mail_, {});
  }
  // As Wait; empty after `timeout`.
  DispatcherMail WaitFor(std::chrono::nanoseconds timeout) {
    MutexLock lock(&mutex_);
    arrived_.WaitFor(lock, timeout, [this]() { return !mail_.empty(); });
    return std::exchange(mail_, {});
  }

 private:
  template <typename Edit>
  void Change(const Edit& edit) {
    {
      MutexLock lock(&mutex_);
      edit(mail_);
    }
    arrived_.NotifyOne();
  }

  Mutex mutex_;
  CondVar arrived_;
  DispatcherMail mail_ ABSL_GUARDED_BY(mutex_);
};

// Takes one row's answer to the mailbox, then deletes itself.
class RowSink : public TokenSink {
 public:
  RowSink(RowKey key, std::shared_ptr<DispatcherMailbox> mailbox)
      : key_(std::move(key)), mailbox_(std::move(mailbox)) {}
  void OnDelta(TokenDelta /*delta*/) override {}
  void OnFinish(GenerateResult result) override {
    mailbox_->Post(RowFinished{std::move(key_), std::move(result)});
    delete this;
  }

 private:
  RowKey key_;
  const std::shared_ptr<DispatcherMailbox> mailbox_;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_DISPATCHER_MAILBOX_H_
