// DaemonTest: a whole daemon on loopback with a fake engine and a real store in a folder of its
// own.
#ifndef MOELIGHT_TESTS_SERVER_DAEMON_FIXTURE_H_
#define MOELIGHT_TESTS_SERVER_DAEMON_FIXTURE_H_

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <gtest/gtest.h>

#include "google/rpc/status.pb.h"
#include "moelight/v1/admin.grpc.pb.h"
#include "moelight/v1/batch_job.grpc.pb.h"
#include "moelight/v1/inference.grpc.pb.h"
#include "server/daemon.h"
#include "tests/server/temp_folder.h"
#include "tests/testing/fake_engine.h"

namespace moelight {

class DaemonTest : public ::testing::Test {
 protected:
  DaemonTest();
  ~DaemonTest() override;

  // A configuration for tests: free ports, the folder of this test. Change it before StartDaemon.
  Config& config() { return config_; }
  FakeEngineOptions& engine_options() { return engine_options_; }
  void StartDaemon(bool load_model = true);
  void StopDaemon();

  Daemon& daemon() { return *daemon_; }
  FakeEngine& engine() { return *engine_; }
  std::shared_ptr<grpc::Channel> NewChannel() const;
  std::shared_ptr<grpc::Channel> NewChannel(int port) const;

  // --- Calls, each with a deadline ---
  grpc::Status Create(const v1::CreateBatchJobRequest& request, v1::BatchJob* job);
  // A new job's id.
  std::string CreateJob();
  // One message with these rows from `first_row` on.
  grpc::Status Append(const std::string& job_id, int64_t first_row,
                      const std::vector<v1::BatchRequest>& rows,
                      v1::AppendBatchRequestsResponse* response);
  grpc::Status Seal(const std::string& job_id, v1::BatchJob* job = nullptr);
  v1::BatchJob Get(const std::string& job_id);
  // Follows the job to its end.
  std::vector<v1::BatchResult> Results(const std::string& job_id, int64_t cursor = 0);

  std::unique_ptr<v1::BatchJobService::Stub> jobs_;
  std::unique_ptr<v1::InferenceService::Stub> inference_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
  std::atomic<int64_t> drain_seconds_ = -1;  // grace given to the Drain RPC, -1: not called
  EngineObserver* observer_ = nullptr;       // what the daemon gave the engine
  absl::Status device_failure_;              // what it was told to end the process with

 private:
  TempFolder folder_;
  Config config_;
  FakeEngineOptions engine_options_;
  FakeEngine* engine_ = nullptr;
  std::unique_ptr<Daemon> daemon_;
};

// A client context that gives up after ten seconds, so that a hanging server fails the test.
std::unique_ptr<grpc::ClientContext> NewContext();

v1::BatchRequest TextRow(const std::string& custom_id, const std::string& text);

// One unary call of `path` ("/package.Service/Method") with these bytes as its message, whether
// they are one or not. `response`, if not null, gets the bytes of the answer.
grpc::Status CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& path,
                     const std::string& bytes, grpc::ClientContext& context,
                     std::string* response = nullptr);

// The details of a failed call.
google::rpc::Status Details(const grpc::Status& status);

// Waits until `condition` holds, for at most ten seconds.
template <typename Condition>
bool Eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace moelight

#endif  // MOELIGHT_TESTS_SERVER_DAEMON_FIXTURE_H_
