#include "server/store/read_thread.h"

#include <optional>

#include "engine/base/status_macros.h"
#include "server/store/schema.h"
#include "server/store/store_errors.h"

namespace moelight {

absl::StatusOr<std::unique_ptr<ReadThread>> ReadThread::Start(const std::string& path,
                                                              const std::string& vfs,
                                                              size_t queue_capacity) {
  ReadConnection connection;
  ASSIGN_OR_RETURN(connection.database, OpenReader(path, vfs));
  ASSIGN_OR_RETURN(connection.rows, RowReader::Create(*connection.database));
  std::unique_ptr<ReadThread> reader(new ReadThread(std::move(connection), queue_capacity));
  reader->thread_ = std::thread([reader = reader.get()]() { reader->Run(); });
  return reader;
}

ReadThread::~ReadThread() {
  closing_ = true;
  queue_.Close();
  thread_.join();
  connection_.rows.reset();  // its statement goes before the connection
}

void ReadThread::Post(Task task) {
  if (queue_.TryPush(std::move(task))) return;
  task(connection_, closing_
                        ? absl::UnavailableError("the job store is closing")
                        : QueueFullError("read queue", static_cast<int64_t>(queue_.capacity())));
}

void ReadThread::Run() {
  while (std::optional<Task> task = queue_.Pop()) {
    (*task)(connection_,
            closing_ ? absl::UnavailableError("the job store is closing") : absl::OkStatus());
  }
}

}  // namespace moelight
