#include "tests/server/daemon_fixture.h"

#include <absl/strings/str_cat.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

namespace moelight {

DaemonTest::DaemonTest() {
  config_.listen = "127.0.0.1:0";
  config_.admin_listen = "127.0.0.1:0";
  config_.metrics_listen = "";  // its listener takes two seconds to stop
  config_.store_path = (folder_.path() / "store").string();
  config_.engine.model = "fake";
}

DaemonTest::~DaemonTest() { StopDaemon(); }

void DaemonTest::StartDaemon(bool load_model) {
  DaemonOptions options{config_,
                        "1.2.3",
                        Logger::Null(),
                        [this](const EngineOptions&, Logger&, EngineObserver* observer) {
                          observer_ = observer;
                          auto engine = std::make_unique<FakeEngine>(engine_options_);
                          engine_ = engine.get();
                          return absl::StatusOr<std::unique_ptr<Engine>>(std::move(engine));
                        },
                        [this](std::chrono::seconds grace) { drain_seconds_ = grace.count(); },
                        [](const absl::Status& status) { FAIL() << status; },
                        [this](const absl::Status& status) { device_failure_ = status; }};
  absl::StatusOr<std::unique_ptr<Daemon>> daemon = Daemon::Start(std::move(options));
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  daemon_ = *std::move(daemon);
  if (load_model) {
    const absl::Status status = daemon_->LoadModel();
    ASSERT_TRUE(status.ok()) << status;
  }
  const std::shared_ptr<grpc::Channel> channel = NewChannel();
  jobs_ = v1::BatchJobService::NewStub(channel);
  inference_ = v1::InferenceService::NewStub(channel);
  admin_ = v1::AdminService::NewStub(NewChannel(daemon_->admin_port()));
}

void DaemonTest::StopDaemon() {
  if (daemon_ == nullptr) return;
  daemon_->Stop();
  daemon_.reset();
  engine_ = nullptr;
}

std::shared_ptr<grpc::Channel> DaemonTest::NewChannel() const {
  return NewChannel(daemon_->port());
}

std::shared_ptr<grpc::Channel> DaemonTest::NewChannel(int port) const {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port),
                                   grpc::InsecureChannelCredentials(), arguments);
}

grpc::Status DaemonTest::Create(const v1::CreateBatchJobRequest& request, v1::BatchJob* job) {
  v1::CreateBatchJobResponse response;
  const grpc::Status status = jobs_->CreateBatchJob(NewContext().get(), request, &response);
  *job = response.job();
  return status;
}

std::string DaemonTest::CreateJob() {
  v1::BatchJob job;
  const grpc::Status status = Create({}, &job);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return job.job_id();
}

grpc::Status DaemonTest::Append(const std::string& job_id, int64_t first_row,
                                const std::vector<v1::BatchRequest>& rows,
                                v1::AppendBatchRequestsResponse* response) {
  const std::unique_ptr<grpc::ClientContext> context = NewContext();
  const auto writer = jobs_->AppendBatchRequests(context.get(), response);
  v1::AppendBatchRequestsRequest message;
  message.set_job_id(job_id);
  message.set_first_row(first_row);
  for (const v1::BatchRequest& row : rows) *message.add_requests() = row;
  writer->Write(message);
  writer->WritesDone();
  return writer->Finish();
}

grpc::Status DaemonTest::Seal(const std::string& job_id, v1::BatchJob* job) {
  v1::SealBatchJobRequest request;
  request.set_job_id(job_id);
  v1::SealBatchJobResponse response;
  const grpc::Status status = jobs_->SealBatchJob(NewContext().get(), request, &response);
  if (job != nullptr) *job = response.job();
  return status;
}

v1::BatchJob DaemonTest::Get(const std::string& job_id) {
  v1::GetBatchJobRequest request;
  request.set_job_id(job_id);
  v1::GetBatchJobResponse response;
  const grpc::Status status = jobs_->GetBatchJob(NewContext().get(), request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response.job();
}

std::vector<v1::BatchResult> DaemonTest::Results(const std::string& job_id, int64_t cursor) {
  v1::ReadBatchResultsRequest request;
  request.set_job_id(job_id);
  request.set_cursor(cursor);
  request.set_follow(true);
  const std::unique_ptr<grpc::ClientContext> context = NewContext();
  const auto reader = jobs_->ReadBatchResults(context.get(), request);
  std::vector<v1::BatchResult> results;
  v1::ReadBatchResultsResponse response;
  while (reader->Read(&response)) {
    results.insert(results.end(), response.results().begin(), response.results().end());
    EXPECT_EQ(response.next_cursor(), cursor + results.size());
  }
  const grpc::Status status = reader->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  return results;
}

std::unique_ptr<grpc::ClientContext> NewContext() {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  return context;
}

v1::BatchRequest TextRow(const std::string& custom_id, const std::string& text) {
  v1::BatchRequest row;
  row.set_custom_id(custom_id);
  row.mutable_prompt()->set_text(text);
  return row;
}

grpc::Status CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& path,
                     const std::string& bytes, grpc::ClientContext& context,
                     std::string* response) {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  const grpc::Slice slice(bytes);
  const auto call = stub.PrepareUnaryCall(&context, path, grpc::ByteBuffer(&slice, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer answer;
  grpc::Status status;
  call->Finish(&answer, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  EXPECT_TRUE(queue.Next(&tag, &ok));
  if (status.ok() && response != nullptr) {
    grpc::Slice whole;
    EXPECT_TRUE(answer.DumpToSingleSlice(&whole).ok());
    response->assign(reinterpret_cast<const char*>(whole.begin()), whole.size());
  }
  return status;
}

google::rpc::Status Details(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  return details;
}

}  // namespace moelight
