// BatchJobService: the RPCs of batch jobs, between the protocol and the JobStore.
//
// Threads: gRPC's callback threads, which never block here: the store calls back.
// Borrows everything in its options; the server must be shut down before they go.
#ifndef MOELIGHT_SERVER_BATCH_JOB_SERVICE_H_
#define MOELIGHT_SERVER_BATCH_JOB_SERVICE_H_

#include <cstdint>

#include "engine/base/logger.h"
#include "moelight/v1/batch_job.grpc.pb.h"
#include "server/access.h"
#include "server/admission.h"
#include "server/job_store.h"
#include "server/throughput_meter.h"

namespace moelight {

struct BatchJobServiceOptions {
  JobStore& store;
  Access& access;
  Admission& admission;
  const ThroughputMeter& throughput;
  Logger& logger;
  int32_t append_messages = 4;          // server.limits.append_messages
  int64_t results_message = 512 << 10;  // server.limits.results_message
};

class BatchJobServiceImpl final
    : public v1::BatchJobService::WithRawCallbackMethod_AppendBatchRequests<
          v1::BatchJobService::CallbackService> {
 public:
  explicit BatchJobServiceImpl(const BatchJobServiceOptions& options) : options_(options) {}

  grpc::ServerUnaryReactor* CreateBatchJob(grpc::CallbackServerContext* context,
                                           const v1::CreateBatchJobRequest* request,
                                           v1::CreateBatchJobResponse* response) override;
  // As bytes, see AppendCall.
  grpc::ServerReadReactor<grpc::ByteBuffer>* AppendBatchRequests(
      grpc::CallbackServerContext* context, grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* SealBatchJob(grpc::CallbackServerContext* context,
                                         const v1::SealBatchJobRequest* request,
                                         v1::SealBatchJobResponse* response) override;
  grpc::ServerUnaryReactor* GetBatchJob(grpc::CallbackServerContext* context,
                                        const v1::GetBatchJobRequest* request,
                                        v1::GetBatchJobResponse* response) override;
  grpc::ServerUnaryReactor* ListBatchJobs(grpc::CallbackServerContext* context,
                                          const v1::ListBatchJobsRequest* request,
                                          v1::ListBatchJobsResponse* response) override;
  grpc::ServerUnaryReactor* CancelBatchJob(grpc::CallbackServerContext* context,
                                           const v1::CancelBatchJobRequest* request,
                                           v1::CancelBatchJobResponse* response) override;
  grpc::ServerUnaryReactor* DeleteBatchJob(grpc::CallbackServerContext* context,
                                           const v1::DeleteBatchJobRequest* request,
                                           v1::DeleteBatchJobResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchBatchJobResponse>* WatchBatchJob(
      grpc::CallbackServerContext* context, const v1::WatchBatchJobRequest* request) override;
  grpc::ServerWriteReactor<v1::ReadBatchResultsResponse>* ReadBatchResults(
      grpc::CallbackServerContext* context, const v1::ReadBatchResultsRequest* request) override;

 private:
  // The request with its client set, if the caller may make the job.
  absl::StatusOr<v1::CreateBatchJobRequest> CheckCreate(const grpc::CallbackServerContext& context,
                                                        const v1::CreateBatchJobRequest& request);
  // Who calls, and that the job is theirs.
  absl::Status CheckOwner(const grpc::CallbackServerContext& context,
                          const std::string& job_id) const;
  absl::StatusOr<Caller> OpenStream(const grpc::CallbackServerContext& context,
                                    const std::string& job_id);

  const BatchJobServiceOptions options_;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_BATCH_JOB_SERVICE_H_
