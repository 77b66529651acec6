// Connection: the channel to one listener, its stubs and how one call is made. Internal to the
// library.
//
// Threads: thread-safe.
#ifndef MOELIGHT_CLIENT_CONNECTION_H_
#define MOELIGHT_CLIENT_CONNECTION_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <utility>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include "client/client.h"
#include "client/retry.h"
#include "client/status.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "moelight/v1/admin.grpc.pb.h"
#include "moelight/v1/batch_job.grpc.pb.h"
#include "moelight/v1/inference.grpc.pb.h"

namespace moelight::client {

// A call's context, which a stop request cancels.
class CallContext {
 public:
  explicit CallContext(const std::stop_token& stop)
      : cancel_(stop, [this]() { context_.TryCancel(); }) {}
  CallContext(const std::stop_token& stop, absl::Duration timeout) : CallContext(stop) {
    context_.set_deadline(std::chrono::system_clock::now() + absl::ToChronoNanoseconds(timeout));
  }
  grpc::ClientContext* get() { return &context_; }

 private:
  grpc::ClientContext context_;
  std::stop_callback<std::function<void()>> cancel_;
};

class Connection {
 public:
  // To the listener for jobs and inference, or to the one for administration.
  static absl::StatusOr<std::unique_ptr<Connection>> Create(const ClientOptions& options);
  static absl::StatusOr<std::unique_ptr<Connection>> CreateAdmin(const ClientOptions& options);

  const ClientOptions& options() const { return options_; }
  v1::BatchJobService::StubInterface& jobs() { return *jobs_; }
  v1::InferenceService::StubInterface& inference() { return *inference_; }
  v1::AdminService::StubInterface& admin() { return *admin_; }
  grpc::health::v1::Health::StubInterface& health() { return *health_; }

  RetryLoop NewRetryLoop(const std::stop_token& stop) const {
    const RetryOptions& retry = options_.retry;
    const absl::Duration budget =
        reached_ ? retry.budget : std::min(retry.budget, retry.first_contact_budget);
    return RetryLoop(retry, budget, stop,
                     [this](absl::Duration duration, const std::stop_token& stop_wait) {
                       return WaitForServer(duration, stop_wait);
                     });
  }

  // Waits for `duration`, or until a connection that was down is up again. False if stopped.
  bool WaitForServer(absl::Duration duration, const std::stop_token& stop) const;

  // Converts, and remembers that there is a server.
  absl::Status Conclude(const grpc::Status& status) {
    absl::Status result = ToAbslStatus(status);
    if (!absl::IsUnavailable(result)) reached_ = true;
    return result;
  }
  void NoteReached() { reached_ = true; }

  // One attempt of a unary call.
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> CallOnce(Stub& stub,
                                    grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                                 const Request&, Response*),
                                    const Request& request, const std::stop_token& stop) {
    CallContext context(stop, options_.call_timeout);
    Response response;
    absl::Status status = Conclude((stub.*method)(context.get(), request, &response));
    if (!status.ok()) return status;
    return response;
  }

  // The same with retries.
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(Stub& stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                const Request& request, const std::stop_token& stop) {
    RetryLoop retry = NewRetryLoop(stop);
    while (true) {
      absl::StatusOr<Response> response = CallOnce(stub, method, request, stop);
      if (response.ok()) return response;
      absl::Status status = retry.BeforeRetry(response.status());
      if (!status.ok()) return status;
    }
  }

 private:
  Connection(const ClientOptions& options, std::shared_ptr<grpc::Channel> channel);

  const ClientOptions options_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::BatchJobService::StubInterface> jobs_;
  const std::unique_ptr<v1::InferenceService::StubInterface> inference_;
  const std::unique_ptr<v1::AdminService::StubInterface> admin_;
  const std::unique_ptr<grpc::health::v1::Health::StubInterface> health_;
  std::atomic<bool> reached_ = false;
};

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_CONNECTION_H_
