// What the store's tests share: folders that go away, waiting for callbacks, small rows.
#ifndef MOELIGHT_TESTS_STORE_STORE_TEST_UTIL_H_
#define MOELIGHT_TESTS_STORE_STORE_TEST_UTIL_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "server/job_store.h"

namespace moelight {

// A fresh folder under the system's temporary folder, removed at the end.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Calls `start` with a callback and returns what the callback gets; DeadlineExceeded after 60 s.
template <typename T>
absl::StatusOr<T> Await(const std::function<void(StoreDone<T>)>& start) {
  auto promise = std::make_shared<std::promise<absl::StatusOr<T>>>();
  std::future<absl::StatusOr<T>> future = promise->get_future();
  start([promise](absl::StatusOr<T> value) { promise->set_value(std::move(value)); });
  if (future.wait_for(std::chrono::seconds(60)) != std::future_status::ready) {
    return absl::DeadlineExceededError("no callback within 60 s");
  }
  return future.get();
}

// A JobStore whose calls return their answers.
class SyncStore {
 public:
  explicit SyncStore(std::unique_ptr<JobStore> store) : store_(std::move(store)) {}

  absl::StatusOr<v1::BatchJob> Create(const v1::CreateBatchJobRequest& request);
  std::string CreateJob();  // no fields set
  absl::StatusOr<AppendOutcome> Append(const std::string& job_id, int64_t first_row,
                                       std::vector<AppendRow> rows);
  absl::StatusOr<v1::BatchJob> Seal(const std::string& job_id, int64_t expected_rows = -1,
                                    double tokens_per_s = 0);
  absl::StatusOr<v1::BatchJob> Cancel(const std::string& job_id);
  absl::Status Delete(const std::string& job_id);
  absl::StatusOr<std::vector<PendingRow>> NextPending(int64_t max_rows);
  absl::StatusOr<std::vector<PendingRow>> Mark(std::vector<PendingRow> rows);
  // NextPending and Mark.
  std::vector<PendingRow> Take(int64_t max_rows);
  absl::Status Record(const std::string& job_id, v1::BatchResult result);
  absl::StatusOr<ResultsPage> Read(const std::string& job_id, int64_t cursor,
                                   int64_t max_bytes = 1 << 20);
  // All results, in pages of `page_bytes`.
  std::vector<v1::BatchResult> ReadAll(const std::string& job_id, int64_t page_bytes = 1 << 20);
  v1::BatchJob Get(const std::string& job_id) const;
  // A sealed job of `num_rows` small rows.
  std::string SealedJob(int64_t num_rows);
  // Waits until the job is in `state`; false after 30 s.
  bool WaitForState(const std::string& job_id, v1::BatchJob::State state);

  JobStore& store() { return *store_; }

 private:
  std::unique_ptr<JobStore> store_;
};

// Opens with defaults, `change` applied; CHECKs that it opens.
std::unique_ptr<SyncStore> OpenStore(const std::string& path,
                                     const std::function<void(JobStoreOptions&)>& change = nullptr);

// Row `row` with custom_id "c<row>", prompt "p<row>" and `prompt_bytes` more bytes.
AppendRow MakeRow(int64_t row, int64_t prompt_bytes = 0);
std::vector<AppendRow> MakeRows(int64_t first_row, int64_t num_rows, int64_t prompt_bytes = 0);
// A row that was refused, with error code INVALID_ARGUMENT.
AppendRow MakeRefusedRow(int64_t row);
// The answer to MakeRow(row).
v1::BatchResult MakeResult(int64_t row);
v1::BatchResult MakeError(int64_t row, absl::StatusCode code);

}  // namespace moelight

#endif  // MOELIGHT_TESTS_STORE_STORE_TEST_UTIL_H_
