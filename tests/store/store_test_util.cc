#include "tests/store/store_test_util.h"

#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"

namespace moelight {

TempFolder::TempFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "moelight_store_XXXXXX").string();
  CHECK(mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

absl::StatusOr<v1::BatchJob> SyncStore::Create(const v1::CreateBatchJobRequest& request) {
  return Await<v1::BatchJob>([&](auto done) { store_->Create(request, std::move(done)); });
}

std::string SyncStore::CreateJob() {
  const absl::StatusOr<v1::BatchJob> job = Create({});
  CHECK(job.ok()) << job.status();
  return job->job_id();
}

absl::StatusOr<AppendOutcome> SyncStore::Append(const std::string& job_id, int64_t first_row,
                                                std::vector<AppendRow> rows) {
  return Await<AppendOutcome>(
      [&](auto done) { store_->Append(job_id, first_row, std::move(rows), std::move(done)); });
}

absl::StatusOr<v1::BatchJob> SyncStore::Seal(const std::string& job_id, int64_t expected_rows,
                                             double tokens_per_s) {
  return Await<v1::BatchJob>(
      [&](auto done) { store_->Seal(job_id, expected_rows, tokens_per_s, std::move(done)); });
}

absl::StatusOr<v1::BatchJob> SyncStore::Cancel(const std::string& job_id) {
  return Await<v1::BatchJob>([&](auto done) { store_->Cancel(job_id, std::move(done)); });
}

absl::Status SyncStore::Delete(const std::string& job_id) {
  return Await<bool>([&](auto done) { store_->Delete(job_id, std::move(done)); }).status();
}

absl::StatusOr<std::vector<PendingRow>> SyncStore::NextPending(int64_t max_rows) {
  return Await<std::vector<PendingRow>>(
      [&](auto done) { store_->NextPending(max_rows, std::move(done)); });
}

absl::StatusOr<std::vector<PendingRow>> SyncStore::Mark(std::vector<PendingRow> rows) {
  return Await<std::vector<PendingRow>>(
      [&](auto done) { store_->MarkInFlight(std::move(rows), std::move(done)); });
}

std::vector<PendingRow> SyncStore::Take(int64_t max_rows) {
  absl::StatusOr<std::vector<PendingRow>> rows = NextPending(max_rows);
  CHECK(rows.ok()) << rows.status();
  rows = Mark(*std::move(rows));
  CHECK(rows.ok()) << rows.status();
  return *std::move(rows);
}

absl::Status SyncStore::Record(const std::string& job_id, v1::BatchResult result) {
  return Await<bool>([&](auto done) {
           store_->RecordResult(job_id, std::move(result), [done](const absl::Status& status) {
             done(status.ok() ? absl::StatusOr<bool>(true) : status);
           });
         })
      .status();
}

absl::StatusOr<ResultsPage> SyncStore::Read(const std::string& job_id, int64_t cursor,
                                            int64_t max_bytes) {
  return Await<ResultsPage>(
      [&](auto done) { store_->ReadResults(job_id, cursor, max_bytes, std::move(done)); });
}

std::vector<v1::BatchResult> SyncStore::ReadAll(const std::string& job_id, int64_t page_bytes) {
  std::vector<v1::BatchResult> all;
  int64_t cursor = 0;
  while (true) {
    absl::StatusOr<ResultsPage> page = Read(job_id, cursor, page_bytes);
    CHECK(page.ok()) << page.status();
    if (page->results.empty()) return all;
    CHECK_EQ(page->next_cursor, cursor + static_cast<int64_t>(page->results.size()));
    cursor = page->next_cursor;
    for (v1::BatchResult& result : page->results) all.push_back(std::move(result));
  }
}

v1::BatchJob SyncStore::Get(const std::string& job_id) const {
  const absl::StatusOr<v1::BatchJob> job = store_->Get(job_id);
  CHECK(job.ok()) << job.status();
  return *job;
}

std::string SyncStore::SealedJob(int64_t num_rows) {
  const std::string job_id = CreateJob();
  const absl::Status appended = Append(job_id, 0, MakeRows(0, num_rows)).status();
  CHECK(appended.ok()) << appended;
  const absl::Status sealed = Seal(job_id, num_rows).status();
  CHECK(sealed.ok()) << sealed;
  return job_id;
}

bool SyncStore::WaitForState(const std::string& job_id, v1::BatchJob::State state) {
  auto reached = std::make_shared<std::promise<void>>();
  auto told = std::make_shared<std::once_flag>();
  const auto check = [this, job_id, state, reached, told]() {
    const absl::StatusOr<v1::BatchJob> job = store_->Get(job_id);
    if (job.ok() && job->state() == state) std::call_once(*told, [&]() { reached->set_value(); });
  };
  const JobStore::SubscriptionId id = store_->Subscribe(job_id, check);
  check();
  const bool ok =
      reached->get_future().wait_for(std::chrono::seconds(30)) == std::future_status::ready;
  store_->Unsubscribe(id);
  return ok;
}

std::unique_ptr<SyncStore> OpenStore(const std::string& path,
                                     const std::function<void(JobStoreOptions&)>& change) {
  JobStoreOptions options;
  options.path = path;
  if (change) change(options);
  absl::StatusOr<std::unique_ptr<JobStore>> store =
      JobStore::Open(std::move(options), Logger::Null());
  CHECK(store.ok()) << store.status();
  return std::make_unique<SyncStore>(*std::move(store));
}

AppendRow MakeRow(int64_t row, int64_t prompt_bytes) {
  AppendRow append;
  append.request.set_custom_id(absl::StrCat("c", row));
  append.request.mutable_prompt()->set_text(
      absl::StrCat("p", row, std::string(static_cast<size_t>(prompt_bytes), 'x')));
  append.estimated_prompt_tokens = 10;
  return append;
}

std::vector<AppendRow> MakeRows(int64_t first_row, int64_t num_rows, int64_t prompt_bytes) {
  std::vector<AppendRow> rows;
  for (int64_t i = 0; i < num_rows; ++i) rows.push_back(MakeRow(first_row + i, prompt_bytes));
  return rows;
}

AppendRow MakeRefusedRow(int64_t row) {
  AppendRow append = MakeRow(row);
  append.refusal.set_code(static_cast<int>(absl::StatusCode::kInvalidArgument));
  append.refusal.set_message("refused");
  return append;
}

v1::BatchResult MakeResult(int64_t row) {
  v1::BatchResult result;
  result.set_row(row);
  result.set_custom_id(absl::StrCat("c", row));
  result.add_choices()->set_text(absl::StrCat("answer ", row));
  result.mutable_usage()->set_prompt_tokens(3);
  result.mutable_usage()->set_completion_tokens(2);
  return result;
}

v1::BatchResult MakeError(int64_t row, absl::StatusCode code) {
  v1::BatchResult result;
  result.set_row(row);
  result.set_custom_id(absl::StrCat("c", row));
  result.mutable_error()->set_code(static_cast<int>(code));
  result.mutable_error()->set_message("error");
  return result;
}

}  // namespace moelight
