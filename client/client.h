// Client: the services of moelight.v1 for C++ programs, with deadlines, retries and resumption.
//
// Retries: a call that ends with UNAVAILABLE is tried again with back-off until the outage has
// lasted ClientOptions::retry.budget; no other code is retried. Every call here is safe to repeat:
// CreateJob carries a random request_id, AppendRows and ReadResults go on from the server's own
// offset, the others are idempotent. A daemon that is killed and restarted within the budget is not
// noticed by the caller.
//
// Threads: thread-safe; calls block the calling thread, callbacks run on it. A stop request on the
// `stop` token cancels the call, which then returns Cancelled("interrupted").
// Owns: two channels. Allocates: AppendRows holds at most `append_stream_bytes` of rows that are
// not acknowledged yet, and one message more. Errors: the server's status with its message; its
// details are a payload, see client/status.h.
#ifndef MOELIGHT_CLIENT_CLIENT_H_
#define MOELIGHT_CLIENT_CLIENT_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include "client/retry.h"
#include "moelight/v1/admin.pb.h"
#include "moelight/v1/batch_job.pb.h"
#include "moelight/v1/inference.pb.h"

namespace moelight::client {

inline constexpr char kDefaultServer[] = "127.0.0.1:50051";
inline constexpr char kDefaultAdminServer[] = "127.0.0.1:50052";

struct TlsOptions {
  std::string ca_pem = {};    // trusted roots; empty: the system's
  std::string cert_pem = {};  // the client's own certificate and key; both or neither
  std::string key_pem = {};
};

struct ClientOptions {
  std::string server = kDefaultServer;                // HOST:PORT
  std::string admin_server = kDefaultAdminServer;     // for ServerInfo and IsServing
  std::optional<TlsOptions> tls = std::nullopt;       // unset, or a loopback address: plain text
  std::string api_key = {};                           // sent with every call; empty: none
  absl::Duration call_timeout = absl::Seconds(30);    // one attempt of a call that is not a stream
  absl::Duration append_timeout = absl::Minutes(10);  // one append stream, the commit included
  RetryOptions retry = {};
  // A message is cheap to resend and far below the server's limit; a stream is large enough that
  // waiting for its commit costs little, and small enough to be held until then.
  int64_t append_message_bytes = 1 << 20;
  int64_t append_message_rows = 1000;
  int64_t append_stream_bytes = 64 << 20;
};

// Writes the next row into an empty `row`. False at the end; an error ends the append with it.
using RowSource = std::function<absl::StatusOr<bool>(v1::BatchRequest& row)>;

struct AppendOptions {
  int64_t first_row = 0;  // offset in the job of the source's first row
  // A server that takes less than ClientOptions::append_message_bytes.
  int64_t max_message_bytes = std::numeric_limits<int64_t>::max();
  std::function<void(int64_t num_rows)> on_acknowledged = {};  // may be empty
};

struct AppendResult {
  int64_t num_rows = 0;     // rows of the job, all on disk
  int64_t num_refused = 0;  // of this call's; too low if a connection broke, the job knows them all
  std::vector<v1::RefusedRow> refused_rows;  // the first of them, at most kMaxListedRefusals
};
inline constexpr int kMaxListedRefusals = 100;

struct ReadOptions {
  int64_t cursor = 0;
  bool follow = false;  // wait for further results until the job has ended and all are read
};

// SUCCEEDED, FAILED, CANCELLED or EXPIRED.
bool HasEnded(v1::BatchJob::State state);

class Connection;  // channel, stubs and retry policy; internal

class Client {
 public:
  // InvalidArgument if an address or the TLS material is unusable, or an API key would cross the
  // network in clear text. Does not connect.
  static absl::StatusOr<std::unique_ptr<Client>> Create(ClientOptions options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // --- Jobs ---
  // Reads display_name, expire_time, default_sampling, labels, client and priority of `job`.
  absl::StatusOr<v1::BatchJob> CreateJob(const v1::BatchJob& job, std::stop_token stop = {});
  absl::StatusOr<AppendResult> AppendRows(const std::string& job_id, const RowSource& next_row,
                                          const AppendOptions& options = {},
                                          std::stop_token stop = {});
  absl::StatusOr<v1::BatchJob> Seal(const std::string& job_id, int64_t expected_rows,
                                    std::stop_token stop = {});
  absl::StatusOr<v1::BatchJob> Get(const std::string& job_id, std::stop_token stop = {});
  absl::StatusOr<v1::ListBatchJobsResponse> List(const v1::ListBatchJobsRequest& request,
                                                 std::stop_token stop = {});
  absl::StatusOr<v1::BatchJob> Cancel(const std::string& job_id, std::stop_token stop = {});
  absl::Status Delete(const std::string& job_id, std::stop_token stop = {});

  // Calls `on_update` with each state the server sends and returns the job once it has ended.
  absl::StatusOr<v1::BatchJob> Watch(const std::string& job_id,
                                     const std::function<void(const v1::BatchJob&)>& on_update,
                                     std::stop_token stop = {});
  // Calls `on_results` with each message from the cursor on, none twice and none left out. An error
  // it returns ends the read. Returns the cursor behind the last result.
  using ResultsCallback = std::function<absl::Status(const v1::ReadBatchResultsResponse&)>;
  absl::StatusOr<int64_t> ReadResults(const std::string& job_id, const ReadOptions& options,
                                      const ResultsCallback& on_results, std::stop_token stop = {});

  // --- Single requests ---
  // Retried only as long as `on_delta` has not been called, because a second attempt may word the
  // answer differently.
  absl::StatusOr<v1::GenerateResponse::Finished> Generate(
      const v1::GenerateRequest& request,
      const std::function<void(const v1::GenerateResponse::Delta&)>& on_delta,
      std::stop_token stop = {});
  absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request,
                                                std::stop_token stop = {});

  // The model and the sizes of what can be sent. Without a name while the model is being loaded.
  absl::StatusOr<v1::GetModelResponse> Model(std::stop_token stop = {});

  // --- The server, by its listener for administration ---
  absl::StatusOr<v1::GetServerInfoResponse> ServerInfo(std::stop_token stop = {});
  // What grpc.health.v1 says of a service; empty: of the server as a whole. One attempt, because an
  // outage is an answer here. NotFound if the server does not know the service.
  absl::StatusOr<bool> IsServing(const std::string& service, std::stop_token stop = {});

  const ClientOptions& options() const { return options_; }

 private:
  Client(ClientOptions options, std::unique_ptr<Connection> connection,
         std::unique_ptr<Connection> admin_connection);

  const ClientOptions options_;
  const std::unique_ptr<Connection> connection_;
  // Each listener is waited for by its own connection: while one is up, waiting on it would leave
  // the other's connection attempt standing.
  const std::unique_ptr<Connection> admin_connection_;
};

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_CLIENT_H_
