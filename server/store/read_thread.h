// ReadThread: a read-only connection with a thread of its own and a bounded queue of questions.
//
// Threads: Post is thread-safe and never blocks; tasks run one after the other on the thread.
// Owns: connection, row reader, queue. Destruction runs what is queued with `closing` set.
#ifndef MOELIGHT_SERVER_STORE_READ_THREAD_H_
#define MOELIGHT_SERVER_STORE_READ_THREAD_H_

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "engine/base/bounded_queue.h"
#include "server/sqlite.h"
#include "server/store/row_reader.h"

namespace moelight {

// What a task reads with.
struct ReadConnection {
  std::unique_ptr<Database> database;
  std::unique_ptr<RowReader> rows;
};

class ReadThread {
 public:
  // Not OK: the task must answer with this instead of reading.
  using Task = std::function<void(ReadConnection& connection, const absl::Status& open)>;

  static absl::StatusOr<std::unique_ptr<ReadThread>> Start(const std::string& path,
                                                           const std::string& vfs,
                                                           size_t queue_capacity);
  ~ReadThread();

  // A task that does not fit runs at once, on the caller's thread, with ResourceExhausted.
  void Post(Task task);

 private:
  ReadThread(ReadConnection connection, size_t queue_capacity)
      : connection_(std::move(connection)), queue_(queue_capacity) {}
  void Run();

  ReadConnection connection_;
  BoundedQueue<Task> queue_;
  std::atomic<bool> closing_ = false;
  std::thread thread_;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_READ_THREAD_H_
