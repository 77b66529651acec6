// Goal: the life of a job over the wire, with every stream cut, refused and resumed.
#include <set>
#include <string>
#include <thread>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/watch_call.h"
#include "tests/server/daemon_fixture.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

using BatchJobServiceTest = DaemonTest;

TEST_F(BatchJobServiceTest, JobRunsFromEndToEnd) {
  StartDaemon();
  const std::string job_id = CreateJob();
  v1::AppendBatchRequestsResponse appended;
  ASSERT_TRUE(Append(job_id, 0, {TextRow("a", "one"), TextRow("b", "two")}, &appended).ok());
  EXPECT_EQ(appended.num_rows(), 2);
  EXPECT_EQ(Get(job_id).state(), v1::BatchJob::STATE_ACCEPTING);
  ASSERT_TRUE(Seal(job_id).ok());

  const std::vector<v1::BatchResult> results = Results(job_id);
  ASSERT_EQ(results.size(), 2);
  for (const v1::BatchResult& result : results) {
    EXPECT_EQ(result.custom_id(), result.row() == 0 ? "a" : "b");
    EXPECT_EQ(result.choices(0).text(), result.row() == 0 ? "echo: one" : "echo: two");
  }
  const v1::BatchJob job = Get(job_id);
  EXPECT_EQ(job.state(), v1::BatchJob::STATE_SUCCEEDED);
  EXPECT_EQ(job.num_succeeded(), 2);
  EXPECT_EQ(Results(job_id, 1).size(), 1);
  EXPECT_TRUE(Results(job_id, 2).empty());

  v1::DeleteBatchJobRequest request;
  request.set_job_id(job_id);
  v1::DeleteBatchJobResponse response;
  EXPECT_TRUE(jobs_->DeleteBatchJob(NewContext().get(), request, &response).ok());
  EXPECT_EQ(jobs_->DeleteBatchJob(NewContext().get(), request, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(BatchJobServiceTest, BadRowsAreListedAndHurtNoOther) {
  StartDaemon();
  const std::string job_id = CreateJob();
  std::vector<v1::BatchRequest> rows = {TextRow("good", "x"), TextRow("empty", "")};
  v1::BatchRequest nan = TextRow("nan", "x");
  nan.mutable_sampling()->set_temperature(std::numeric_limits<float>::quiet_NaN());
  rows.push_back(nan);
  rows.push_back(TextRow("fails", "fail: x"));
  v1::AppendBatchRequestsResponse appended;
  ASSERT_TRUE(Append(job_id, 0, rows, &appended).ok());
  EXPECT_EQ(appended.num_rows(), 4);
  EXPECT_EQ(appended.num_refused(), 2);
  ASSERT_EQ(appended.refused_rows_size(), 2);
  EXPECT_EQ(appended.refused_rows(0).row(), 1);
  EXPECT_EQ(appended.refused_rows(1).custom_id(), "nan");
  EXPECT_THAT(appended.refused_rows(1).error().message(), HasSubstr("sampling.temperature"));
  ASSERT_TRUE(Seal(job_id).ok());

  const std::vector<v1::BatchResult> results = Results(job_id);
  ASSERT_EQ(results.size(), 4);
  for (const v1::BatchResult& result : results) {
    EXPECT_EQ(result.has_error(), result.custom_id() != "good") << result.ShortDebugString();
  }
  const v1::BatchJob job = Get(job_id);
  EXPECT_EQ(job.state(), v1::BatchJob::STATE_SUCCEEDED);
  EXPECT_EQ(job.num_failed(), 3);
}

TEST_F(BatchJobServiceTest, AtMostAHundredRefusalsAreListed) {
  StartDaemon();
  v1::AppendBatchRequestsResponse appended;
  ASSERT_TRUE(
      Append(CreateJob(), 0, std::vector<v1::BatchRequest>(150, TextRow("", "")), &appended).ok());
  EXPECT_EQ(appended.refused_rows_size(), 100);
  EXPECT_EQ(appended.num_refused(), 150);
  EXPECT_EQ(appended.num_rows(), 150);
}

TEST_F(BatchJobServiceTest, AppendResumesWithoutGapOrDuplicate) {
  StartDaemon();
  const std::string job_id = CreateJob();
  v1::AppendBatchRequestsResponse appended;
  ASSERT_TRUE(Append(job_id, 0, {TextRow("0", "a"), TextRow("1", "b")}, &appended).ok());
  // The client lost the answer and sends row 1 again.
  ASSERT_TRUE(Append(job_id, 1, {TextRow("1", "b"), TextRow("2", "c")}, &appended).ok());
  EXPECT_EQ(appended.num_rows(), 3);
  EXPECT_EQ(Append(job_id, 2, {TextRow("2", "other")}, &appended).error_code(),
            grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(Append(job_id, 4, {TextRow("4", "e")}, &appended).error_code(),
            grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(Append(job_id, -1, {TextRow("", "e")}, &appended).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Get(job_id).num_rows(), 3);
}

TEST_F(BatchJobServiceTest, ManyMessagesOfOneStreamAreAllStored) {
  config().rpc_limits.append_messages = 2;
  config().rpc_limits.append_buffer = 64 << 10;  // so that messages wait for each other's bytes
  StartDaemon();
  const std::string job_id = CreateJob();
  v1::AppendBatchRequestsResponse response;
  const std::unique_ptr<grpc::ClientContext> context = NewContext();
  const auto writer = jobs_->AppendBatchRequests(context.get(), &response);
  constexpr int kMessages = 50;
  constexpr int kRows = 40;
  for (int i = 0; i < kMessages; ++i) {
    v1::AppendBatchRequestsRequest message;
    if (i == 0) message.set_job_id(job_id);
    message.set_first_row(i * kRows);
    for (int k = 0; k < kRows; ++k) *message.add_requests() = TextRow("", std::string(500, 'x'));
    ASSERT_TRUE(writer->Write(message));
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.num_rows(), kMessages * kRows);
  EXPECT_EQ(Get(job_id).num_rows(), kMessages * kRows);
}

TEST_F(BatchJobServiceTest, AppendsToSeveralJobsShareTheBuffer) {
  config().rpc_limits.append_buffer = 16 << 10;
  StartDaemon();
  std::vector<std::thread> clients;
  for (int client = 0; client < 4; ++client) {
    clients.emplace_back([this]() {
      const std::string job_id = CreateJob();
      for (int i = 0; i < 5; ++i) {
        v1::AppendBatchRequestsResponse appended;
        const std::vector<v1::BatchRequest> rows(10, TextRow("", std::string(1000, 'x')));
        const grpc::Status status = Append(job_id, i * 10, rows, &appended);
        EXPECT_TRUE(status.ok()) << status.error_message();
      }
      EXPECT_EQ(Get(job_id).num_rows(), 50);
    });
  }
  for (std::thread& client : clients) client.join();
}

TEST_F(BatchJobServiceTest, StreamsThatMakeNoSenseAreRefused) {
  StartDaemon();
  const std::string job_id = CreateJob();
  v1::AppendBatchRequestsResponse response;
  EXPECT_EQ(Append("", 0, {TextRow("", "a")}, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Append("job-none", 0, {TextRow("", "a")}, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);

  std::unique_ptr<grpc::ClientContext> context = NewContext();
  auto writer = jobs_->AppendBatchRequests(context.get(), &response);
  writer->WritesDone();
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);

  context = NewContext();
  writer = jobs_->AppendBatchRequests(context.get(), &response);
  v1::AppendBatchRequestsRequest message;
  message.set_job_id(job_id);
  writer->Write(message);
  message.set_job_id("job-other");
  writer->Write(message);
  writer->WritesDone();
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(BatchJobServiceTest, ValidateOnlyStoresNothing) {
  StartDaemon();
  const std::string job_id = CreateJob();
  v1::AppendBatchRequestsResponse response;
  const std::unique_ptr<grpc::ClientContext> context = NewContext();
  const auto writer = jobs_->AppendBatchRequests(context.get(), &response);
  v1::AppendBatchRequestsRequest message;
  message.set_job_id(job_id);
  message.set_validate_only(true);
  *message.add_requests() = TextRow("a", "");
  *message.add_requests() = TextRow("b", "good");
  writer->Write(message);
  writer->WritesDone();
  ASSERT_TRUE(writer->Finish().ok());
  EXPECT_EQ(response.num_rows(), 0);
  EXPECT_EQ(response.num_refused(), 1);
  EXPECT_EQ(Get(job_id).num_rows(), 0);
}

TEST_F(BatchJobServiceTest, CreateAndSealAreIdempotent) {
  StartDaemon();
  v1::CreateBatchJobRequest request;
  request.set_request_id("r1");
  request.mutable_job()->set_display_name("first");
  v1::BatchJob first, again;
  ASSERT_TRUE(Create(request, &first).ok());
  ASSERT_TRUE(Create(request, &again).ok());
  EXPECT_EQ(first.job_id(), again.job_id());
  request.mutable_job()->set_display_name("second");
  EXPECT_EQ(Create(request, &again).error_code(), grpc::StatusCode::ALREADY_EXISTS);

  v1::SealBatchJobRequest seal;
  seal.set_job_id(first.job_id());
  seal.set_expected_rows(1);
  v1::SealBatchJobResponse sealed;
  EXPECT_EQ(jobs_->SealBatchJob(NewContext().get(), seal, &sealed).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  seal.set_expected_rows(-1);
  EXPECT_EQ(jobs_->SealBatchJob(NewContext().get(), seal, &sealed).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  v1::AppendBatchRequestsResponse appended;
  ASSERT_TRUE(Append(first.job_id(), 0, {TextRow("", "a")}, &appended).ok());
  EXPECT_TRUE(Seal(first.job_id()).ok());
  EXPECT_TRUE(Seal(first.job_id()).ok());
}

TEST_F(BatchJobServiceTest, LimitsAnswerWithTheKeyThatStoppedThem) {
  config().store_limits.rows_per_job = 2;
  StartDaemon();
  const std::string job_id = CreateJob();
  v1::AppendBatchRequestsResponse appended;
  const std::vector<v1::BatchRequest> rows(3, TextRow("", "a"));
  const grpc::Status status = Append(job_id, 0, rows, &appended);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(Details(status).DebugString(), HasSubstr("server.limits.rows_per_job"));
}

TEST_F(BatchJobServiceTest, WatchFollowsAJobToItsEnd) {
  StartDaemon();
  const std::string job_id = CreateJob();
  v1::WatchBatchJobRequest request;
  request.set_job_id(job_id);
  const std::unique_ptr<grpc::ClientContext> context = NewContext();
  const auto reader = jobs_->WatchBatchJob(context.get(), request);
  v1::WatchBatchJobResponse response;
  ASSERT_TRUE(reader->Read(&response));
  const auto first_seen = std::chrono::steady_clock::now();
  EXPECT_EQ(response.job().state(), v1::BatchJob::STATE_ACCEPTING);
  v1::AppendBatchRequestsResponse appended;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Append(job_id, i, {TextRow("", "a")}, &appended).ok());
  ASSERT_TRUE(Seal(job_id).ok());
  int num_updates = 0;
  while (reader->Read(&response)) ++num_updates;
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(response.job().state(), v1::BatchJob::STATE_SUCCEEDED);
  EXPECT_GE(num_updates, 1);
  const auto elapsed = std::chrono::steady_clock::now() - first_seen;
  EXPECT_LE(num_updates, elapsed / WatchCall::kMinInterval + 1) << "more than twice a second";

  // A job that has ended is sent once; one that does not exist is an error.
  const std::unique_ptr<grpc::ClientContext> again = NewContext();
  const auto ended = jobs_->WatchBatchJob(again.get(), request);
  EXPECT_TRUE(ended->Read(&response));
  EXPECT_FALSE(ended->Read(&response));
  EXPECT_TRUE(ended->Finish().ok());
  request.set_job_id("job-none");
  const std::unique_ptr<grpc::ClientContext> none = NewContext();
  EXPECT_EQ(jobs_->WatchBatchJob(none.get(), request)->Finish().error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(BatchJobServiceTest, ResultsEndAtOnceUnlessFollowed) {
  StartDaemon();
  const std::string job_id = CreateJob();
  v1::ReadBatchResultsRequest request;
  request.set_job_id(job_id);
  v1::ReadBatchResultsResponse response;
  std::unique_ptr<grpc::ClientContext> context = NewContext();
  auto reader = jobs_->ReadBatchResults(context.get(), request);
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_TRUE(reader->Finish().ok());
  for (const int64_t cursor : {int64_t{-1}, int64_t{1} << 60}) {
    request.set_cursor(cursor);
    context = NewContext();
    reader = jobs_->ReadBatchResults(context.get(), request);
    EXPECT_FALSE(reader->Read(&response));
    EXPECT_FALSE(reader->Finish().ok()) << cursor;
  }
  request.set_job_id("job-none");
  request.set_cursor(0);
  request.set_follow(true);
  context = NewContext();
  reader = jobs_->ReadBatchResults(context.get(), request);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(BatchJobServiceTest, ResultsOfManyRowsComeInPages) {
  config().rpc_limits.results_message = 4 << 10;
  StartDaemon();
  const std::string job_id = CreateJob();
  v1::AppendBatchRequestsResponse appended;
  std::vector<v1::BatchRequest> rows;
  for (int i = 0; i < 500; ++i) rows.push_back(TextRow(absl::StrCat(i), std::string(100, 'x')));
  ASSERT_TRUE(Append(job_id, 0, rows, &appended).ok());
  ASSERT_TRUE(Seal(job_id).ok());
  std::set<int64_t> seen;
  for (const v1::BatchResult& result : Results(job_id)) seen.insert(result.row());
  EXPECT_EQ(seen.size(), 500);
}

TEST_F(BatchJobServiceTest, ClientsThatGoAwayLeaveNothingBehind) {
  StartDaemon();
  const std::string job_id = CreateJob();
  v1::AppendBatchRequestsResponse appended;
  ASSERT_TRUE(Append(job_id, 0, {TextRow("", "hang: on")}, &appended).ok());
  ASSERT_TRUE(Seal(job_id).ok());
  for (int i = 0; i < 20; ++i) {
    v1::WatchBatchJobRequest watch;
    watch.set_job_id(job_id);
    v1::ReadBatchResultsRequest read;
    read.set_job_id(job_id);
    read.set_follow(true);
    const auto watch_context = NewContext(), read_context = NewContext(),
               append_context = NewContext();
    const auto watcher = jobs_->WatchBatchJob(watch_context.get(), watch);
    const auto reader = jobs_->ReadBatchResults(read_context.get(), read);
    const auto writer = jobs_->AppendBatchRequests(append_context.get(), &appended);
    v1::WatchBatchJobResponse update;
    EXPECT_TRUE(watcher->Read(&update));
    for (const auto& context : {watch_context.get(), read_context.get(), append_context.get()}) {
      context->TryCancel();
    }
    EXPECT_EQ(watcher->Finish().error_code(), grpc::StatusCode::CANCELLED);
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
    EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  v1::CancelBatchJobRequest cancel;
  cancel.set_job_id(job_id);
  v1::CancelBatchJobResponse cancelled;
  EXPECT_TRUE(jobs_->CancelBatchJob(NewContext().get(), cancel, &cancelled).ok());
  EXPECT_TRUE(Eventually([&]() { return Get(job_id).state() == v1::BatchJob::STATE_CANCELLED; }));
}

TEST_F(BatchJobServiceTest, JobsAreListedInPages) {
  StartDaemon();
  for (int i = 0; i < 5; ++i) CreateJob();
  v1::ListBatchJobsRequest request;
  request.set_page_size(2);
  std::set<std::string> seen;
  do {
    v1::ListBatchJobsResponse response;
    ASSERT_TRUE(jobs_->ListBatchJobs(NewContext().get(), request, &response).ok());
    for (const v1::BatchJob& job : response.jobs()) seen.insert(job.job_id());
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(seen.size(), 5);
  request.set_page_token("nonsense");
  v1::ListBatchJobsResponse response;
  EXPECT_EQ(jobs_->ListBatchJobs(NewContext().get(), request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(BatchJobServiceTest, WhileLoadingReadsWorkAndNewWorkIsUnavailable) {
  StartDaemon(/*load_model=*/false);
  v1::BatchJob job;
  const grpc::Status status = Create({}, &job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(Details(status).DebugString(), HasSubstr("google.rpc.RetryInfo"));
  v1::AppendBatchRequestsResponse appended;
  EXPECT_EQ(Append("job-x", 0, {}, &appended).error_code(), grpc::StatusCode::UNAVAILABLE);
  v1::ListBatchJobsResponse jobs;
  EXPECT_TRUE(jobs_->ListBatchJobs(NewContext().get(), {}, &jobs).ok());
  ASSERT_TRUE(daemon().LoadModel().ok());
  EXPECT_TRUE(Create({}, &job).ok());
}

TEST_F(BatchJobServiceTest, StopEndsOpenStreamsAndTheNextDaemonGoesOn) {
  StartDaemon();
  const std::string job_id = CreateJob();
  v1::AppendBatchRequestsResponse appended;
  ASSERT_TRUE(Append(job_id, 0, {TextRow("a", "hang: on"), TextRow("b", "x")}, &appended).ok());
  ASSERT_TRUE(Seal(job_id).ok());
  v1::ReadBatchResultsRequest request;
  request.set_job_id(job_id);
  request.set_follow(true);
  const std::unique_ptr<grpc::ClientContext> context = NewContext();
  const auto reader = jobs_->ReadBatchResults(context.get(), request);
  v1::ReadBatchResultsResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.results(0).custom_id(), "b");

  const auto start = std::chrono::steady_clock::now();
  StopDaemon();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(4));
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);

  StartDaemon();
  EXPECT_EQ(Get(job_id).num_succeeded(), 1);
  v1::CancelBatchJobRequest cancel;
  cancel.set_job_id(job_id);
  v1::CancelBatchJobResponse cancelled;
  EXPECT_TRUE(jobs_->CancelBatchJob(NewContext().get(), cancel, &cancelled).ok());
  EXPECT_EQ(Results(job_id).size(), 2);
}

}  // namespace
}  // namespace moelight
