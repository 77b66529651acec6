#include "tests/client/fake_server.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <grpcpp/server_builder.h>

#include "engine/base/check.h"

namespace moelight::testing {
namespace {

constexpr int64_t kResultsPerMessage = 3;
constexpr int64_t kSecondsOfAJob = 24 * 3600;  // as estimated
constexpr auto kPollCancelled = std::chrono::milliseconds(20);

grpc::Status NoSuchJob(const std::string& job_id) {
  return grpc::Status(grpc::StatusCode::NOT_FOUND, absl::StrCat("job \"", job_id, "\" not found"));
}

bool IsFailing(const v1::BatchRequest& row) { return absl::StartsWith(row.custom_id(), "fail"); }

std::string Answer(const v1::Prompt& prompt) {
  if (prompt.has_chat()) {
    const auto& messages = prompt.chat().messages();
    return absl::AsciiStrToUpper(messages[messages.size() - 1].content());
  }
  return absl::AsciiStrToUpper(prompt.text());
}

v1::BatchResult ResultOf(const v1::BatchRequest& row, int64_t index) {
  v1::BatchResult result;
  result.set_row(index);
  result.set_custom_id(row.custom_id());
  if (IsFailing(row)) {
    result.mutable_error()->set_code(grpc::StatusCode::INVALID_ARGUMENT);
    result.mutable_error()->set_message("told to fail");
    return result;
  }
  v1::Choice& choice = *result.add_choices();
  choice.set_text(Answer(row.prompt()));
  choice.set_finish_reason(v1::FINISH_REASON_STOP);
  result.mutable_usage()->set_prompt_tokens(3);
  result.mutable_usage()->set_completion_tokens(2);
  return result;
}

}  // namespace

class FakeServer::Jobs : public v1::BatchJobService::Service {
 public:
  explicit Jobs(FakeServer& server) : server_(server) {}

  grpc::Status CreateBatchJob(grpc::ServerContext*, const v1::CreateBatchJobRequest* request,
                              v1::CreateBatchJobResponse* response) override {
    return server_.Create(*request, response->mutable_job());
  }
  grpc::Status AppendBatchRequests(grpc::ServerContext*,
                                   grpc::ServerReader<v1::AppendBatchRequestsRequest>* reader,
                                   v1::AppendBatchRequestsResponse* response) override {
    return server_.Append(reader, response);
  }
  grpc::Status SealBatchJob(grpc::ServerContext*, const v1::SealBatchJobRequest* request,
                            v1::SealBatchJobResponse* response) override {
    return WithJob("SealBatchJob", request->job_id(), [&](Job& job) {
      if (request->expected_rows() != static_cast<int64_t>(job.rows.size())) {
        return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "wrong number of rows");
      }
      job.job.set_state(v1::BatchJob::STATE_QUEUED);
      job.job.mutable_estimated_end_time()->set_seconds(absl::ToUnixSeconds(absl::Now()) +
                                                        kSecondsOfAJob);
      job.job.set_deadline_unreachable(job.job.has_expire_time() &&
                                       job.job.expire_time().seconds() <
                                           job.job.estimated_end_time().seconds());
      *response->mutable_job() = job.job;
      server_.UpdateProgress(job);
      return grpc::Status::OK;
    });
  }
  grpc::Status GetBatchJob(grpc::ServerContext*, const v1::GetBatchJobRequest* request,
                           v1::GetBatchJobResponse* response) override {
    return WithJob("GetBatchJob", request->job_id(), [&](Job& job) {
      *response->mutable_job() = job.job;
      return grpc::Status::OK;
    });
  }
  grpc::Status ListBatchJobs(grpc::ServerContext*, const v1::ListBatchJobsRequest* request,
                             v1::ListBatchJobsResponse* response) override {
    if (grpc::Status fault = server_.Enter("ListBatchJobs"); !fault.ok()) return fault;
    MutexLock lock(&server_.mutex_);
    auto it = server_.jobs_.upper_bound(request->page_token());
    for (; it != server_.jobs_.end() && response->jobs_size() < request->page_size(); ++it) {
      *response->add_jobs() = it->second.job;
    }
    if (it != server_.jobs_.end()) response->set_next_page_token(std::prev(it)->first);
    return grpc::Status::OK;
  }
  grpc::Status CancelBatchJob(grpc::ServerContext*, const v1::CancelBatchJobRequest* request,
                              v1::CancelBatchJobResponse* response) override {
    return WithJob("CancelBatchJob", request->job_id(), [&](Job& job) {
      job.job.set_state(v1::BatchJob::STATE_CANCELLED);
      *response->mutable_job() = job.job;
      return grpc::Status::OK;
    });
  }
  grpc::Status DeleteBatchJob(grpc::ServerContext*, const v1::DeleteBatchJobRequest* request,
                              v1::DeleteBatchJobResponse*) override {
    return WithJob("DeleteBatchJob", request->job_id(), [&](Job&) {
      server_.jobs_.erase(request->job_id());
      return grpc::Status::OK;
    });
  }
  grpc::Status WatchBatchJob(grpc::ServerContext* context, const v1::WatchBatchJobRequest* request,
                             grpc::ServerWriter<v1::WatchBatchJobResponse>* writer) override {
    return server_.Watch(context, request->job_id(), writer);
  }
  grpc::Status ReadBatchResults(grpc::ServerContext* context,
                                const v1::ReadBatchResultsRequest* request,
                                grpc::ServerWriter<v1::ReadBatchResultsResponse>* writer) override {
    return server_.ReadResults(context, *request, writer);
  }

 private:
  template <typename Body>
  grpc::Status WithJob(const std::string& method, const std::string& job_id, const Body& body) {
    if (grpc::Status fault = server_.Enter(method); !fault.ok()) return fault;
    MutexLock lock(&server_.mutex_);
    Job* job = server_.Find(job_id);
    return job == nullptr ? NoSuchJob(job_id) : body(*job);
  }

  FakeServer& server_;
};

class FakeServer::Inference : public v1::InferenceService::Service {
 public:
  explicit Inference(FakeServer& server) : server_(server) {}

  grpc::Status Generate(grpc::ServerContext*, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    if (grpc::Status fault = server_.Enter("Generate"); !fault.ok()) return fault;
    const std::string answer = Answer(request->prompt());
    v1::GenerateResponse response;
    for (const char c : answer) {
      response.mutable_delta()->set_text(std::string(1, c));
      writer->Write(response);
    }
    // A second fault breaks the call in the middle of the answer.
    if (grpc::Status fault = server_.Enter("GenerateEnd"); !fault.ok()) return fault;
    v1::Choice& choice = *response.mutable_finished()->add_choices();
    choice.set_text(answer);
    choice.set_finish_reason(v1::FINISH_REASON_STOP);
    writer->Write(response);
    return grpc::Status::OK;
  }
  grpc::Status Tokenize(grpc::ServerContext*, const v1::TokenizeRequest*,
                        v1::TokenizeResponse* response) override {
    if (grpc::Status fault = server_.Enter("Tokenize"); !fault.ok()) return fault;
    response->add_token_ids(7);
    return grpc::Status::OK;
  }

  grpc::Status GetModel(grpc::ServerContext*, const v1::GetModelRequest*,
                        v1::GetModelResponse* response) override {
    if (grpc::Status fault = server_.Enter("GetModel"); !fault.ok()) return fault;
    response->mutable_model()->set_name("fake");
    response->mutable_model()->set_has_chat_template(true);
    response->set_max_row_bytes(2000);
    return grpc::Status::OK;
  }

 private:
  FakeServer& server_;
};

class FakeServer::Admin : public v1::AdminService::Service {
 public:
  explicit Admin(FakeServer& server) : server_(server) {}

  grpc::Status GetServerInfo(grpc::ServerContext*, const v1::GetServerInfoRequest*,
                             v1::GetServerInfoResponse* response) override {
    if (grpc::Status fault = server_.Enter("GetServerInfo"); !fault.ok()) return fault;
    response->set_version("9.9.9");
    response->mutable_model()->set_name("fake");
    response->mutable_model()->set_has_chat_template(true);
    v1::Limit& limit = *response->add_limits();
    limit.set_key("server.limits.row_bytes");
    limit.set_value(2000);
    return grpc::Status::OK;
  }

 private:
  FakeServer& server_;
};

FakeServer::FakeServer()
    : jobs_service_(std::make_unique<Jobs>(*this)),
      inference_service_(std::make_unique<Inference>(*this)),
      admin_service_(std::make_unique<Admin>(*this)) {
  Start();
}

FakeServer::~FakeServer() { Stop(); }

void FakeServer::Start() {
  {
    MutexLock lock(&mutex_);
    stopping_ = false;
  }
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", port_), grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(jobs_service_.get());
  builder.RegisterService(inference_service_.get());
  builder.RegisterService(admin_service_.get());
  server_ = builder.BuildAndStart();
  CHECK(server_ != nullptr) << "no port";
  port_ = port;
}

void FakeServer::Stop() {
  if (server_ == nullptr) return;
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
}

std::string FakeServer::address() const { return absl::StrCat("127.0.0.1:", port_); }

void FakeServer::FailNext(const std::string& method, grpc::Status status) {
  MutexLock lock(&mutex_);
  faults_[method].push_back(std::move(status));
}

void FakeServer::BreakAppendAfter(int64_t num_rows) {
  MutexLock lock(&mutex_);
  append_faults_.push_back(num_rows);
}

void FakeServer::BreakResultsAfter(int num_messages, bool politely) {
  MutexLock lock(&mutex_);
  results_faults_.push_back({num_messages, politely});
}

void FakeServer::HoldJobs(int64_t num_results) {
  MutexLock lock(&mutex_);
  holding_ = true;
  num_held_results_ = num_results;
}

void FakeServer::ReleaseJobs() {
  {
    MutexLock lock(&mutex_);
    holding_ = false;
    for (auto& [id, job] : jobs_) UpdateProgress(job);
  }
  changed_.NotifyAll();
}

int FakeServer::num_calls(const std::string& method) const {
  MutexLock lock(&mutex_);
  const auto it = calls_.find(method);
  return it == calls_.end() ? 0 : it->second;
}

std::vector<v1::BatchRequest> FakeServer::rows(const std::string& job_id) const {
  MutexLock lock(&mutex_);
  return jobs_.at(job_id).rows;
}

v1::BatchJob FakeServer::job(const std::string& job_id) const {
  MutexLock lock(&mutex_);
  return jobs_.at(job_id).job;
}

int64_t FakeServer::num_repeated_rows() const {
  MutexLock lock(&mutex_);
  return num_repeated_rows_;
}

int64_t FakeServer::max_message_rows() const {
  MutexLock lock(&mutex_);
  return max_message_rows_;
}

int64_t FakeServer::max_message_bytes() const {
  MutexLock lock(&mutex_);
  return max_message_bytes_;
}

grpc::Status FakeServer::Enter(const std::string& method) {
  MutexLock lock(&mutex_);
  ++calls_[method];
  std::deque<grpc::Status>& faults = faults_[method];
  if (faults.empty()) return grpc::Status::OK;
  grpc::Status status = faults.front();
  faults.pop_front();
  return status;
}

FakeServer::Job* FakeServer::Find(const std::string& job_id) {
  const auto it = jobs_.find(job_id);
  return it == jobs_.end() ? nullptr : &it->second;
}

void FakeServer::UpdateProgress(Job& job) {
  if (job.job.state() != v1::BatchJob::STATE_QUEUED &&
      job.job.state() != v1::BatchJob::STATE_RUNNING) {
    return;
  }
  const int64_t total = job.rows.size();
  const int64_t done = holding_ ? std::min(num_held_results_, total) : total;
  const int64_t failed = std::count_if(job.rows.begin(), job.rows.begin() + done, IsFailing);
  job.job.set_num_failed(failed);
  job.job.set_num_succeeded(done - failed);
  job.job.set_generated_tokens(2 * (done - failed));
  job.job.set_state(holding_ ? v1::BatchJob::STATE_RUNNING : v1::BatchJob::STATE_SUCCEEDED);
}

grpc::Status FakeServer::Create(const v1::CreateBatchJobRequest& request, v1::BatchJob* job) {
  // The job is made before the fault, as when the answer is lost on its way.
  {
    MutexLock lock(&mutex_);
    Job* found = nullptr;
    for (auto& [id, other] : jobs_) {
      if (other.request_id == request.request_id()) found = &other;
    }
    if (found == nullptr) {
      const std::string id = absl::StrCat("job-", jobs_.size() + 1);
      found = &jobs_[id];
      found->job = request.job();
      found->job.set_job_id(id);
      found->job.set_state(v1::BatchJob::STATE_ACCEPTING);
      found->job.mutable_create_time()->set_seconds(1000);
      found->request_id = request.request_id();
    }
    *job = found->job;
  }
  return Enter("CreateBatchJob");
}

grpc::Status FakeServer::Append(grpc::ServerReader<v1::AppendBatchRequestsRequest>* reader,
                                v1::AppendBatchRequestsResponse* response) {
  if (grpc::Status fault = Enter("AppendBatchRequests"); !fault.ok()) return fault;
  int64_t rows_left = std::numeric_limits<int64_t>::max();
  {
    MutexLock lock(&mutex_);
    if (!append_faults_.empty()) {
      rows_left = append_faults_.front();
      append_faults_.pop_front();
    }
  }
  v1::AppendBatchRequestsRequest message;
  std::string job_id;
  while (reader->Read(&message)) {
    if (!message.job_id().empty()) job_id = message.job_id();
    MutexLock lock(&mutex_);
    Job* job = Find(job_id);
    if (job == nullptr) return NoSuchJob(job_id);
    if (grpc::Status status = Store(message, *job, rows_left); !status.ok()) return status;
    response->set_num_rows(job->rows.size());
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::Store(const v1::AppendBatchRequestsRequest& message, Job& job,
                               int64_t& rows_left) {
  max_message_rows_ = std::max<int64_t>(max_message_rows_, message.requests_size());
  max_message_bytes_ = std::max<int64_t>(max_message_bytes_, message.ByteSizeLong());
  if (message.first_row() > static_cast<int64_t>(job.rows.size())) {
    return grpc::Status(grpc::StatusCode::OUT_OF_RANGE, "gap");
  }
  for (int i = 0; i < message.requests_size(); ++i) {
    const int64_t row = message.first_row() + i;
    if (row < static_cast<int64_t>(job.rows.size())) {
      ++num_repeated_rows_;
      if (job.rows[row].SerializeAsString() == message.requests(i).SerializeAsString()) continue;
      return grpc::Status(grpc::StatusCode::ALREADY_EXISTS, "another row");
    }
    if (rows_left-- == 0) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "broken on demand");
    job.rows.push_back(message.requests(i));
    job.job.set_num_rows(job.rows.size());
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::ReadResults(grpc::ServerContext* context,
                                     const v1::ReadBatchResultsRequest& request,
                                     grpc::ServerWriter<v1::ReadBatchResultsResponse>* writer) {
  if (grpc::Status fault = Enter("ReadBatchResults"); !fault.ok()) return fault;
  ResultsFault fault = {std::numeric_limits<int>::max(), false};
  int64_t cursor = request.cursor();
  MutexLock lock(&mutex_);
  if (!results_faults_.empty()) {
    fault = results_faults_.front();
    results_faults_.pop_front();
  }
  while (true) {
    Job* job = Find(request.job_id());
    if (job == nullptr) return NoSuchJob(request.job_id());
    const int64_t end = job->job.num_succeeded() + job->job.num_failed();
    if (cursor < end && fault.num_messages-- == 0) {
      return fault.politely ? grpc::Status::OK
                            : grpc::Status(grpc::StatusCode::UNAVAILABLE, "broken on demand");
    }
    if (cursor < end) {
      v1::ReadBatchResultsResponse response;
      for (int64_t i = 0; i < kResultsPerMessage && cursor < end; ++i, ++cursor) {
        *response.add_results() = ResultOf(job->rows[cursor], cursor);
      }
      response.set_next_cursor(cursor);
      writer->Write(response);
      continue;
    }
    if (!request.follow() || job->job.state() >= v1::BatchJob::STATE_SUCCEEDED) {
      return grpc::Status::OK;
    }
    if (stopping_) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "going down");
    if (context->IsCancelled()) return grpc::Status::CANCELLED;
    // The synchronous API has no notice of cancellation.
    changed_.WaitFor(lock, kPollCancelled, [this]() { return stopping_; });
  }
}

grpc::Status FakeServer::Watch(grpc::ServerContext* context, const std::string& job_id,
                               grpc::ServerWriter<v1::WatchBatchJobResponse>* writer) {
  if (grpc::Status fault = Enter("WatchBatchJob"); !fault.ok()) return fault;
  std::string sent;
  MutexLock lock(&mutex_);
  while (true) {
    Job* job = Find(job_id);
    if (job == nullptr) return NoSuchJob(job_id);
    const std::string now =
        absl::StrCat(job->job.state(), " ", job->job.num_rows(), " ", job->job.num_succeeded());
    if (now != sent) {
      v1::WatchBatchJobResponse response;
      *response.mutable_job() = job->job;
      writer->Write(response);
      sent = now;
    }
    if (job->job.state() >= v1::BatchJob::STATE_SUCCEEDED) return grpc::Status::OK;
    if (stopping_) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "going down");
    if (context->IsCancelled()) return grpc::Status::CANCELLED;
    changed_.WaitFor(lock, kPollCancelled, [this]() { return stopping_; });
  }
}

}  // namespace moelight::testing
