// Appender: one AppendRows call. It cuts rows into messages and streams, and after a broken
// connection goes on from the row that the server says it has. Internal to the library.
//
// Threads: one. Owns: the messages that are not acknowledged yet.
#ifndef MOELIGHT_CLIENT_APPENDER_H_
#define MOELIGHT_CLIENT_APPENDER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "client/client.h"
#include "client/connection.h"

namespace moelight::client {

class Appender {
 public:
  // Borrows `connection`.
  Appender(Connection& connection, std::string job_id, const AppendOptions& options,
           std::stop_token stop);
  // Cancels the stream if the append ended early.
  ~Appender();
  Appender(const Appender&) = delete;
  Appender& operator=(const Appender&) = delete;

  absl::StatusOr<AppendResult> Run(const RowSource& next_row);

 private:
  // Sends what is pending; with `close`, also ends the stream and waits until all rows are on disk.
  // Survives outages within the retry budget.
  absl::Status Send(bool close);
  absl::Status SendOnce(bool close);
  void OpenStream();
  // Ends the stream after the server did; the reason it gave, never OK.
  absl::Status AbandonStream();
  absl::Status CloseStream();
  // Asks the server how far the job reaches.
  absl::Status Resynchronize();
  // The server has rows below `num_rows` on disk: drops them from the pending messages.
  absl::Status Acknowledge(int64_t num_rows);
  void NoteRefusals(const v1::AppendBatchRequestsResponse& response);

  // The next message, nullopt at the end of the source.
  absl::StatusOr<std::optional<v1::AppendBatchRequestsRequest>> NextMessage(
      const RowSource& next_row);

  struct Pending {
    v1::AppendBatchRequestsRequest message;
    int64_t bytes = 0;
  };
  // A member order that ends the writer before the context it uses.
  struct Stream {
    Stream(const std::stop_token& stop, absl::Duration timeout) : context(stop, timeout) {}
    CallContext context;
    v1::AppendBatchRequestsResponse response;
    std::unique_ptr<grpc::ClientWriterInterface<v1::AppendBatchRequestsRequest>> writer;
  };

  Connection& connection_;
  const std::string job_id_;
  const AppendOptions options_;
  const std::stop_token stop_;
  RetryLoop retry_;

  std::optional<v1::BatchRequest> held_row_;  // from the source, did not fit the message before
  int64_t next_row_;                          // offset of the row to come
  int64_t acknowledged_;                      // rows below are on disk
  std::deque<Pending> pending_;               // not acknowledged, in order
  size_t num_written_ = 0;                    // of pending_, on the current stream
  int64_t pending_bytes_ = 0;
  std::unique_ptr<Stream> stream_;  // set: open, Finish() was not called
  AppendResult result_;
};

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_APPENDER_H_
