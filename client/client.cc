#include "client/client.h"

#include <utility>

#include <absl/random/random.h>
#include <absl/strings/str_format.h>

#include "client/appender.h"
#include "client/connection.h"
#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

using Jobs = v1::BatchJobService::StubInterface;

std::string RandomRequestId() {
  absl::BitGen random;
  return absl::StrFormat("%016x%016x", absl::Uniform<uint64_t>(random),
                         absl::Uniform<uint64_t>(random));
}

}  // namespace

bool HasEnded(v1::BatchJob::State state) {
  return state == v1::BatchJob::STATE_SUCCEEDED || state == v1::BatchJob::STATE_FAILED ||
         state == v1::BatchJob::STATE_CANCELLED || state == v1::BatchJob::STATE_EXPIRED;
}

absl::StatusOr<std::unique_ptr<Client>> Client::Create(ClientOptions options) {
  ASSIGN_OR_RETURN(std::unique_ptr<Connection> connection, Connection::Create(options));
  ASSIGN_OR_RETURN(std::unique_ptr<Connection> admin_connection, Connection::CreateAdmin(options));
  return std::unique_ptr<Client>(
      new Client(std::move(options), std::move(connection), std::move(admin_connection)));
}

Client::Client(ClientOptions options, std::unique_ptr<Connection> connection,
               std::unique_ptr<Connection> admin_connection)
    : options_(std::move(options)),
      connection_(std::move(connection)),
      admin_connection_(std::move(admin_connection)) {}
Client::~Client() = default;

absl::StatusOr<v1::BatchJob> Client::CreateJob(const v1::BatchJob& job, std::stop_token stop) {
  v1::CreateBatchJobRequest request;
  *request.mutable_job() = job;
  request.set_request_id(RandomRequestId());
  ASSIGN_OR_RETURN(v1::CreateBatchJobResponse response,
                   connection_->Call(connection_->jobs(), &Jobs::CreateBatchJob, request, stop));
  return std::move(*response.mutable_job());
}

absl::StatusOr<AppendResult> Client::AppendRows(const std::string& job_id,
                                                const RowSource& next_row,
                                                const AppendOptions& options,
                                                std::stop_token stop) {
  return Appender(*connection_, job_id, options, std::move(stop)).Run(next_row);
}

absl::StatusOr<v1::BatchJob> Client::Seal(const std::string& job_id, int64_t expected_rows,
                                          std::stop_token stop) {
  v1::SealBatchJobRequest request;
  request.set_job_id(job_id);
  request.set_expected_rows(expected_rows);
  ASSIGN_OR_RETURN(v1::SealBatchJobResponse response,
                   connection_->Call(connection_->jobs(), &Jobs::SealBatchJob, request, stop));
  return std::move(*response.mutable_job());
}

absl::StatusOr<v1::BatchJob> Client::Get(const std::string& job_id, std::stop_token stop) {
  v1::GetBatchJobRequest request;
  request.set_job_id(job_id);
  ASSIGN_OR_RETURN(v1::GetBatchJobResponse response,
                   connection_->Call(connection_->jobs(), &Jobs::GetBatchJob, request, stop));
  return std::move(*response.mutable_job());
}

absl::StatusOr<v1::ListBatchJobsResponse> Client::List(const v1::ListBatchJobsRequest& request,
                                                       std::stop_token stop) {
  return connection_->Call(connection_->jobs(), &Jobs::ListBatchJobs, request, stop);
}

absl::StatusOr<v1::BatchJob> Client::Cancel(const std::string& job_id, std::stop_token stop) {
  v1::CancelBatchJobRequest request;
  request.set_job_id(job_id);
  ASSIGN_OR_RETURN(v1::CancelBatchJobResponse response,
                   connection_->Call(connection_->jobs(), &Jobs::CancelBatchJob, request, stop));
  return std::move(*response.mutable_job());
}

absl::Status Client::Delete(const std::string& job_id, std::stop_token stop) {
  v1::DeleteBatchJobRequest request;
  request.set_job_id(job_id);
  return connection_->Call(connection_->jobs(), &Jobs::DeleteBatchJob, request, stop).status();
}

absl::StatusOr<v1::TokenizeResponse> Client::Tokenize(const v1::TokenizeRequest& request,
                                                      std::stop_token stop) {
  return connection_->Call(connection_->inference(), &v1::InferenceService::StubInterface::Tokenize,
                           request, stop);
}

absl::StatusOr<v1::GetModelResponse> Client::Model(std::stop_token stop) {
  return connection_->Call(connection_->inference(), &v1::InferenceService::StubInterface::GetModel,
                           v1::GetModelRequest(), stop);
}

absl::StatusOr<v1::GetServerInfoResponse> Client::ServerInfo(std::stop_token stop) {
  return admin_connection_->Call(admin_connection_->admin(),
                                 &v1::AdminService::StubInterface::GetServerInfo,
                                 v1::GetServerInfoRequest(), stop);
}

absl::StatusOr<bool> Client::IsServing(const std::string& service, std::stop_token stop) {
  using grpc::health::v1::Health;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  ASSIGN_OR_RETURN(grpc::health::v1::HealthCheckResponse response,
                   admin_connection_->CallOnce(admin_connection_->health(),
                                               &Health::StubInterface::Check, request, stop));
  return response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
}

}  // namespace moelight::client
