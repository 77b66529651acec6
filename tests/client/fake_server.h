// FakeServer: the services of moelight.v1 in memory on a loopback port, with faults on demand.
//
// A sealed job is "computed" at once: a row's answer is its prompt in capitals, and rows whose
// custom_id begins with "fail" fail. Jobs outlive Stop() and Start(), as they outlive a daemon.
//
// Threads: thread-safe.
#ifndef MOELIGHT_TESTS_CLIENT_FAKE_SERVER_H_
#define MOELIGHT_TESTS_CLIENT_FAKE_SERVER_H_

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/server.h>

#include "engine/base/mutex.h"
#include "moelight/v1/admin.grpc.pb.h"
#include "moelight/v1/batch_job.grpc.pb.h"
#include "moelight/v1/inference.grpc.pb.h"

namespace moelight::testing {

class FakeServer {
 public:
  FakeServer();
  ~FakeServer();

  void Start();  // on the same port as before
  void Stop();   // breaks every connection
  std::string address() const;

  // --- Faults, each used once, in the order given ---
  // The next call of `method` ("GetBatchJob") fails with this before it does anything.
  void FailNext(const std::string& method, grpc::Status status);
  // The next append stream stores this many rows more, then breaks; what follows of it is lost.
  void BreakAppendAfter(int64_t num_rows);
  // The next results stream breaks after this many messages, with an OK status if `politely`.
  void BreakResultsAfter(int num_messages, bool politely);
  // Sealed jobs stay RUNNING with the first `num_results` results until ReleaseJobs().
  void HoldJobs(int64_t num_results);
  void ReleaseJobs();

  // --- What happened ---
  int num_calls(const std::string& method) const;
  std::vector<v1::BatchRequest> rows(const std::string& job_id) const;
  v1::BatchJob job(const std::string& job_id) const;
  // Rows that were sent although they were stored already.
  int64_t num_repeated_rows() const;
  int64_t max_message_rows() const;
  int64_t max_message_bytes() const;

 private:
  class Jobs;
  class Inference;
  class Admin;

  struct Job {
    v1::BatchJob job;
    std::vector<v1::BatchRequest> rows;
    std::string request_id;
  };
  struct ResultsFault {
    int num_messages;
    bool politely;
  };

  // Counts the call and takes its fault, if there is one.
  grpc::Status Enter(const std::string& method);
  Job* Find(const std::string& job_id);  // REQUIRES: mutex_ is held
  void UpdateProgress(Job& job);         // REQUIRES: mutex_ is held
  grpc::Status Create(const v1::CreateBatchJobRequest& request, v1::BatchJob* job);
  grpc::Status Append(grpc::ServerReader<v1::AppendBatchRequestsRequest>* reader,
                      v1::AppendBatchRequestsResponse* response);
  // Stores what it may of one message; false: the stream breaks here.
  grpc::Status Store(const v1::AppendBatchRequestsRequest& message, Job& job, int64_t& rows_left);
  grpc::Status ReadResults(grpc::ServerContext* context, const v1::ReadBatchResultsRequest& request,
                           grpc::ServerWriter<v1::ReadBatchResultsResponse>* writer);
  grpc::Status Watch(grpc::ServerContext* context, const std::string& job_id,
                     grpc::ServerWriter<v1::WatchBatchJobResponse>* writer);

  const std::unique_ptr<Jobs> jobs_service_;
  const std::unique_ptr<Inference> inference_service_;
  const std::unique_ptr<Admin> admin_service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;

  mutable Mutex mutex_;
  CondVar changed_;
  std::map<std::string, Job> jobs_;
  std::map<std::string, std::deque<grpc::Status>> faults_;
  std::map<std::string, int> calls_;
  std::deque<int64_t> append_faults_;
  std::deque<ResultsFault> results_faults_;
  bool holding_ = false;
  bool stopping_ = false;
  int64_t num_held_results_ = 0;
  int64_t num_repeated_rows_ = 0;
  int64_t max_message_rows_ = 0;
  int64_t max_message_bytes_ = 0;
};

}  // namespace moelight::testing

#endif  // MOELIGHT_TESTS_CLIENT_FAKE_SERVER_H_
