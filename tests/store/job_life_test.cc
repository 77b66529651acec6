// Goal: a job's life as the protocol describes it: states, idempotency, offsets, listing.
#include <set>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/check.h"
#include "tests/store/store_test_util.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;
using v1::BatchJob;

class JobLifeTest : public ::testing::Test {
 protected:
  TempFolder folder_;
  std::unique_ptr<SyncStore> store_ = OpenStore(folder_.path());
};

TEST_F(JobLifeTest, RunsFromAcceptingToSucceeded) {
  const std::string id = store_->CreateJob();
  EXPECT_EQ(id.size(), 20);
  EXPECT_EQ(id.substr(0, 4), "job-");
  EXPECT_EQ(store_->Get(id).state(), BatchJob::STATE_ACCEPTING);
  EXPECT_TRUE(store_->Get(id).has_create_time());
  EXPECT_EQ(store_->Append(id, 0, MakeRows(0, 3))->num_rows, 3);
  EXPECT_TRUE(store_->NextPending(10)->empty()) << "rows of an unsealed job do not run";
  EXPECT_EQ(store_->Seal(id)->state(), BatchJob::STATE_QUEUED);

  const std::vector<PendingRow> rows = store_->Take(2);
  ASSERT_EQ(rows.size(), 2);
  EXPECT_EQ(rows[0].row, 0);
  EXPECT_EQ(rows[1].request.custom_id(), "c1");
  EXPECT_EQ(rows[1].request.prompt().text(), "p1");
  EXPECT_EQ(store_->Get(id).state(), BatchJob::STATE_RUNNING);
  EXPECT_TRUE(store_->Get(id).has_start_time());
  EXPECT_TRUE(store_->Record(id, MakeResult(1)).ok());
  EXPECT_TRUE(store_->Record(id, MakeError(0, absl::StatusCode::kInternal)).ok());
  ASSERT_EQ(store_->Take(10).size(), 1);
  EXPECT_TRUE(store_->Record(id, MakeResult(2)).ok());

  const BatchJob job = store_->Get(id);
  EXPECT_EQ(job.state(), BatchJob::STATE_SUCCEEDED);
  EXPECT_TRUE(job.has_end_time());
  EXPECT_EQ(job.num_succeeded(), 2);
  EXPECT_EQ(job.num_failed(), 1);
  EXPECT_EQ(job.prompt_tokens(), 6);
  EXPECT_EQ(job.generated_tokens(), 4);
}

TEST_F(JobLifeTest, CreateIsIdempotentByRequestId) {
  v1::CreateBatchJobRequest request;
  request.set_request_id("r-1");
  request.mutable_job()->set_display_name("night run");
  for (int i = 0; i < 16; ++i) {
    (*request.mutable_job()->mutable_labels())[absl::StrCat(i)] = absl::StrCat("label ", i);
  }
  const auto first = store_->Create(request);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(store_->Create(request)->job_id(), first->job_id());

  v1::CreateBatchJobRequest other = request;
  other.mutable_job()->set_display_name("day run");
  const absl::Status refused = store_->Create(other).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("r-1"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr(first->job_id()));

  store_.reset();
  store_ = OpenStore(folder_.path());
  EXPECT_EQ(store_->Create(request)->job_id(), first->job_id());
  EXPECT_EQ(store_->Create(other).status().code(), absl::StatusCode::kAlreadyExists);
  // The id is free again when its job is gone.
  ASSERT_TRUE(store_->Cancel(first->job_id()).ok());
  ASSERT_TRUE(store_->Delete(first->job_id()).ok());
  EXPECT_NE(store_->Create(request)->job_id(), first->job_id());
}

TEST_F(JobLifeTest, OutputOnlyFieldsOfCreateAreNotTaken) {
  v1::CreateBatchJobRequest request;
  request.mutable_job()->set_job_id("job-mine");
  request.mutable_job()->set_state(BatchJob::STATE_SUCCEEDED);
  request.mutable_job()->set_num_rows(7);
  request.mutable_job()->mutable_default_sampling()->set_max_tokens(5);
  const auto job = store_->Create(request);
  EXPECT_NE(job->job_id(), "job-mine");
  EXPECT_EQ(job->state(), BatchJob::STATE_ACCEPTING);
  EXPECT_EQ(job->num_rows(), 0);
  EXPECT_EQ(job->default_sampling().max_tokens(), 5);
}

TEST_F(JobLifeTest, ValidateOnlyMakesNothing) {
  v1::CreateBatchJobRequest request;
  request.set_validate_only(true);
  request.set_request_id("r");
  EXPECT_EQ(store_->Create(request)->job_id(), "");
  EXPECT_EQ(store_->store().List({})->jobs_size(), 0);
}

TEST_F(JobLifeTest, AppendRecognisesRepeatsAndRefusesGapsAndChanges) {
  const std::string id = store_->CreateJob();
  ASSERT_EQ(store_->Append(id, 0, MakeRows(0, 300))->num_rows, 300);
  struct Case {
    const char* what;
    int64_t first_row;
    std::vector<AppendRow> rows;
    absl::StatusCode code;
    const char* named;
    int64_t num_rows;
  };
  std::vector<AppendRow> changed = MakeRows(290, 20);
  changed[7] = MakeRow(1000);
  const Case cases[] = {
      {"all repeated", 0, MakeRows(0, 300), absl::StatusCode::kOk, "", 300},
      {"nothing", 300, {}, absl::StatusCode::kOk, "", 300},
      {"half repeated", 200, MakeRows(200, 150), absl::StatusCode::kOk, "", 350},
      {"gap", 351, MakeRows(351, 1), absl::StatusCode::kOutOfRange, "expected offset is 350", 350},
      {"changed", 290, changed, absl::StatusCode::kAlreadyExists, "row 297", 350},
      {"negative", -1, MakeRows(0, 1), absl::StatusCode::kInvalidArgument, "first_row", 350},
  };
  for (const Case& c : cases) {
    const absl::StatusOr<AppendOutcome> outcome = store_->Append(id, c.first_row, c.rows);
    EXPECT_EQ(outcome.status().code(), c.code) << c.what;
    if (outcome.ok()) {
      EXPECT_EQ(outcome->num_rows, c.num_rows) << c.what;
    }
    EXPECT_THAT(std::string(outcome.status().message()), HasSubstr(c.named));
    EXPECT_EQ(store_->Get(id).num_rows(), c.num_rows) << c.what;
  }
  // A repeat is still answered when the job takes no more rows.
  ASSERT_TRUE(store_->Seal(id).ok());
  EXPECT_EQ(store_->Append(id, 100, MakeRows(100, 50))->num_rows, 350);
  EXPECT_EQ(store_->Append(id, 350, MakeRows(350, 1)).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(JobLifeTest, MapsInRowsCompareEqualWhateverTheirOrder) {
  const std::string id = store_->CreateJob();
  AppendRow row = MakeRow(0);
  AppendRow same = MakeRow(0);
  for (int i = 0; i < 50; ++i) {
    (*row.request.mutable_sampling()->mutable_logit_bias())[i] = 1;
    (*same.request.mutable_sampling()->mutable_logit_bias())[49 - i] = 1;
  }
  ASSERT_TRUE(store_->Append(id, 0, {row}).ok());
  EXPECT_TRUE(store_->Append(id, 0, {same}).ok());
}

// Rows: state before; columns: what each call says there.
TEST_F(JobLifeTest, EveryCallInEveryState) {
  struct Case {
    const char* state;
    absl::StatusCode append, seal, cancel, remove;
  };
  constexpr auto kOk = absl::StatusCode::kOk;
  constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;
  const Case cases[] = {
      {"accepting", kOk, kOk, kOk, kPrecondition},
      {"queued", kPrecondition, kOk, kOk, kPrecondition},
      {"running", kPrecondition, kOk, kOk, kPrecondition},
      {"cancelling", kPrecondition, kOk, kOk, kPrecondition},
      {"cancelled while sealed", kPrecondition, kOk, kOk, kOk},
      {"cancelled while accepting", kPrecondition, kPrecondition, kOk, kOk},
      {"succeeded", kPrecondition, kOk, kOk, kOk},
      {"unknown", absl::StatusCode::kNotFound, absl::StatusCode::kNotFound,
       absl::StatusCode::kNotFound, absl::StatusCode::kNotFound},
  };
  const auto make = [this](const std::string& state) -> std::string {
    if (state == "unknown") return "job-unknown";
    const std::string id = store_->CreateJob();
    CHECK(store_->Append(id, 0, MakeRows(0, 2)).ok());
    if (state == "accepting") return id;
    if (state != "cancelled while accepting") CHECK(store_->Seal(id).ok());
    if (state == "queued") return id;
    if (state == "running" || state == "cancelling" || state == "succeeded") {
      while (true) {  // rows of the other jobs come first
        const auto rows = store_->Take(1000);
        if (std::any_of(rows.begin(), rows.end(),
                        [&id](const PendingRow& row) { return row.job_id == id; })) {
          break;
        }
      }
    }
    if (state.substr(0, 6) == "cancel") CHECK(store_->Cancel(id).ok());
    if (state == "succeeded") {
      CHECK(store_->Record(id, MakeResult(0)).ok());
      CHECK(store_->Record(id, MakeResult(1)).ok());
    }
    return id;
  };
  for (const Case& c : cases) {
    std::string id = make(c.state);
    EXPECT_EQ(store_->Append(id, 2, MakeRows(2, 1)).status().code(),
              c.state == std::string("unknown") ? absl::StatusCode::kNotFound : c.append)
        << c.state;
    EXPECT_EQ(store_->Delete(id).code(), c.remove) << c.state;
    id = make(c.state);
    EXPECT_EQ(store_->Seal(id).status().code(), c.seal) << c.state;
    id = make(c.state);
    EXPECT_EQ(store_->Cancel(id).status().code(), c.cancel) << c.state;
  }
}

TEST_F(JobLifeTest, SealChecksExpectedRowsAndEndsAnEmptyJob) {
  const std::string id = store_->CreateJob();
  const absl::Status refused = store_->Seal(id, 1).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("expected_rows: is 1"));
  EXPECT_EQ(store_->Get(id).state(), BatchJob::STATE_ACCEPTING);
  EXPECT_EQ(store_->Seal(id, 0)->state(), BatchJob::STATE_SUCCEEDED);
  EXPECT_EQ(store_->Seal(id, 0)->state(), BatchJob::STATE_SUCCEEDED);
}

TEST_F(JobLifeTest, RefusedRowsHaveTheirResultAtOnceAndNeverRun) {
  const std::string id = store_->CreateJob();
  std::vector<AppendRow> rows = {MakeRefusedRow(0), MakeRow(1), MakeRefusedRow(2), MakeRow(3),
                                 MakeRefusedRow(4)};
  ASSERT_TRUE(store_->Append(id, 0, rows).ok());
  EXPECT_EQ(store_->Get(id).num_failed(), 3);
  ASSERT_TRUE(store_->Seal(id).ok());
  const std::vector<PendingRow> taken = store_->Take(10);
  ASSERT_EQ(taken.size(), 2);
  EXPECT_EQ(taken[0].row, 1);
  EXPECT_EQ(taken[1].row, 3);
  for (const PendingRow& row : taken) EXPECT_TRUE(store_->Record(id, MakeResult(row.row)).ok());
  EXPECT_EQ(store_->Get(id).state(), BatchJob::STATE_SUCCEEDED);
  std::set<int64_t> seen;
  for (const v1::BatchResult& result : store_->ReadAll(id)) {
    EXPECT_TRUE(seen.insert(result.row()).second);
    EXPECT_EQ(result.has_error(), result.row() % 2 == 0);
    EXPECT_EQ(result.custom_id(), absl::StrCat("c", result.row()));
  }
  EXPECT_EQ(seen.size(), 5);
}

TEST_F(JobLifeTest, AJobOfRefusedRowsEndsWhenSealed) {
  const std::string id = store_->CreateJob();
  ASSERT_TRUE(store_->Append(id, 0, {MakeRefusedRow(0), MakeRefusedRow(1)}).ok());
  EXPECT_EQ(store_->Seal(id)->state(), BatchJob::STATE_SUCCEEDED);
}

TEST_F(JobLifeTest, ASecondResultIsDroppedAndOneForAnUnstartedRowRefused) {
  const std::string id = store_->SealedJob(3);
  ASSERT_EQ(store_->Take(1).size(), 1);
  EXPECT_TRUE(store_->Record(id, MakeResult(0)).ok());
  EXPECT_TRUE(store_->Record(id, MakeError(0, absl::StatusCode::kInternal)).ok());
  EXPECT_EQ(store_->Record(id, MakeResult(1)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store_->Record("job-none", MakeResult(1)).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->ReadAll(id).size(), 1);
  EXPECT_EQ(store_->Get(id).num_failed(), 0);
}

TEST_F(JobLifeTest, ListsNewestFirstInPagesByState) {
  std::vector<std::string> ids;
  for (int i = 0; i < 7; ++i) ids.push_back(store_->CreateJob());
  for (int i = 0; i < 7; i += 2) ASSERT_TRUE(store_->Cancel(ids[i]).ok());
  for (const int page_size : {1, 2, 3, 6, 7, 8, 0}) {
    std::vector<std::string> listed;
    v1::ListBatchJobsRequest request;
    request.set_page_size(page_size);
    do {
      const auto page = store_->store().List(request);
      ASSERT_TRUE(page.ok());
      if (page_size > 0) {
        EXPECT_LE(page->jobs_size(), page_size);
      }
      for (const BatchJob& job : page->jobs()) listed.push_back(job.job_id());
      request.set_page_token(page->next_page_token());
    } while (!request.page_token().empty());
    EXPECT_EQ(listed, std::vector<std::string>(ids.rbegin(), ids.rend())) << page_size;
  }
  v1::ListBatchJobsRequest request;
  request.add_states(BatchJob::STATE_CANCELLED);
  EXPECT_EQ(store_->store().List(request)->jobs_size(), 4);
  request.set_page_token("x");
  EXPECT_EQ(store_->store().List(request).status().code(), absl::StatusCode::kInvalidArgument);
  request.clear_page_token();
  request.set_page_size(1001);
  EXPECT_EQ(store_->store().List(request).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(JobLifeTest, OldestSealedJobRunsFirst) {
  const std::string a = store_->CreateJob();
  const std::string b = store_->CreateJob();
  for (const std::string& id : {a, b}) ASSERT_TRUE(store_->Append(id, 0, MakeRows(0, 2)).ok());
  ASSERT_TRUE(store_->Seal(b).ok());
  ASSERT_TRUE(store_->Seal(a).ok());
  const std::vector<PendingRow> rows = store_->Take(3);
  ASSERT_EQ(rows.size(), 3);
  EXPECT_EQ(rows[0].job_id, b);
  EXPECT_EQ(rows[1].job_id, b);
  EXPECT_EQ(rows[2].job_id, a);
}

TEST_F(JobLifeTest, MarkLeavesOutRowsInFlightAndOfCancelledJobs) {
  const std::string a = store_->SealedJob(2);
  const std::string b = store_->SealedJob(2);
  const auto rows = store_->NextPending(10);
  ASSERT_EQ(rows->size(), 4);
  ASSERT_TRUE(store_->Cancel(a).ok());
  EXPECT_EQ(store_->Mark(*rows)->size(), 2);
  EXPECT_EQ(store_->Mark(*rows)->size(), 0);
  EXPECT_TRUE(store_->NextPending(10)->empty());
}

}  // namespace
}  // namespace moelight
