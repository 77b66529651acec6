#include "client/appender.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

// Tag and length in front of a row of less than 256 MiB.
constexpr int64_t kRowOverheadBytes = 5;

}  // namespace

Appender::Appender(Connection& connection, std::string job_id, const AppendOptions& options,
                   std::stop_token stop)
    : connection_(connection),
      job_id_(std::move(job_id)),
      options_(options),
      stop_(std::move(stop)),
      retry_(connection.NewRetryLoop(stop_)),
      next_row_(options.first_row),
      acknowledged_(options.first_row) {}

Appender::~Appender() {
  if (stream_ == nullptr) return;
  stream_->context.get()->TryCancel();
  stream_->writer->Finish();
}

absl::StatusOr<AppendResult> Appender::Run(const RowSource& next_row) {
  result_.num_rows = acknowledged_;
  while (true) {
    ASSIGN_OR_RETURN(std::optional<v1::AppendBatchRequestsRequest> message, NextMessage(next_row));
    if (!message.has_value()) break;
    const int64_t bytes = message->ByteSizeLong();
    pending_bytes_ += bytes;
    pending_.push_back({*std::move(message), bytes});
    RETURN_IF_ERROR(Send(/*close=*/pending_bytes_ >= connection_.options().append_stream_bytes));
  }
  RETURN_IF_ERROR(Send(/*close=*/true));
  result_.num_rows = acknowledged_;
  return std::move(result_);
}

absl::StatusOr<std::optional<v1::AppendBatchRequestsRequest>> Appender::NextMessage(
    const RowSource& next_row) {
  const ClientOptions& limits = connection_.options();
  v1::AppendBatchRequestsRequest message;
  message.set_job_id(job_id_);
  message.set_first_row(next_row_);
  const int64_t max_bytes = std::min(limits.append_message_bytes, options_.max_message_bytes);
  int64_t bytes = 0;
  while (message.requests_size() < limits.append_message_rows) {
    if (!held_row_.has_value()) {
      ASSIGN_OR_RETURN(const bool more, next_row(held_row_.emplace()));
      if (!more) {
        held_row_.reset();
        break;
      }
    }
    bytes += held_row_->ByteSizeLong() + kRowOverheadBytes;
    // A row that is too large for any message goes alone, for the server to say so.
    if (bytes > max_bytes && message.requests_size() > 0) break;
    message.add_requests()->Swap(&*held_row_);
    held_row_.reset();
  }
  if (message.requests_size() == 0) return std::nullopt;
  next_row_ += message.requests_size();
  return message;
}

absl::Status Appender::Send(bool close) {
  absl::Status status = SendOnce(close);
  while (!status.ok()) {
    stream_.reset();
    num_written_ = 0;
    RETURN_IF_ERROR(retry_.BeforeRetry(status));
    status = Resynchronize();
    if (status.ok()) status = SendOnce(close);
  }
  return absl::OkStatus();
}

absl::Status Appender::SendOnce(bool close) {
  if (stream_ == nullptr && num_written_ < pending_.size()) OpenStream();
  while (num_written_ < pending_.size()) {
    if (!stream_->writer->Write(pending_[num_written_].message)) return AbandonStream();
    ++num_written_;
  }
  return close && stream_ != nullptr ? CloseStream() : absl::OkStatus();
}

void Appender::OpenStream() {
  stream_ = std::make_unique<Stream>(stop_, connection_.options().append_timeout);
  stream_->writer =
      connection_.jobs().AppendBatchRequests(stream_->context.get(), &stream_->response);
}

absl::Status Appender::AbandonStream() {
  absl::Status status = connection_.Conclude(stream_->writer->Finish());
  // A server that ends the stream early without an error is on its way down.
  if (status.ok()) return absl::UnavailableError("the server ended the stream before its end");
  return status;
}

absl::Status Appender::CloseStream() {
  stream_->writer->WritesDone();
  RETURN_IF_ERROR(connection_.Conclude(stream_->writer->Finish()));
  NoteRefusals(stream_->response);
  RETURN_IF_ERROR(Acknowledge(stream_->response.num_rows()));
  stream_.reset();
  num_written_ = 0;
  if (pending_.empty()) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("the server acknowledged ", acknowledged_, " of ", next_row_, " rows"));
}

absl::Status Appender::Resynchronize() {
  v1::GetBatchJobRequest request;
  request.set_job_id(job_id_);
  ASSIGN_OR_RETURN(
      v1::GetBatchJobResponse response,
      connection_.CallOnce(connection_.jobs(), &v1::BatchJobService::StubInterface::GetBatchJob,
                           request, stop_));
  return Acknowledge(response.job().num_rows());
}

absl::Status Appender::Acknowledge(int64_t num_rows) {
  if (num_rows < acknowledged_) {
    return absl::DataLossError(absl::StrCat("job ", job_id_, " has ", num_rows, " rows, but ",
                                            acknowledged_, " were acknowledged before"));
  }
  if (num_rows > next_row_) {
    return absl::FailedPreconditionError(absl::StrCat("job ", job_id_, " has ", num_rows,
                                                      " rows, but only ", next_row_,
                                                      " were sent; does another client append?"));
  }
  while (!pending_.empty()) {
    v1::AppendBatchRequestsRequest& message = pending_.front().message;
    const int64_t num_stored = num_rows - message.first_row();
    if (num_stored <= 0) break;
    if (num_stored < message.requests_size()) {
      message.mutable_requests()->DeleteSubrange(0, static_cast<int>(num_stored));
      message.set_first_row(num_rows);
      break;
    }
    pending_bytes_ -= pending_.front().bytes;
    pending_.pop_front();
  }
  if (num_rows > acknowledged_) {
    acknowledged_ = num_rows;
    retry_.NoteProgress();
    if (options_.on_acknowledged) options_.on_acknowledged(num_rows);
  }
  return absl::OkStatus();
}

void Appender::NoteRefusals(const v1::AppendBatchRequestsResponse& response) {
  result_.num_refused += response.num_refused();
  for (const v1::RefusedRow& row : response.refused_rows()) {
    if (result_.refused_rows.size() >= kMaxListedRefusals) return;
    result_.refused_rows.push_back(row);
  }
}

}  // namespace moelight::client
