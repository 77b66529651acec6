#include "server/store/store_errors.h"

#include <absl/strings/cord.h>
#include <absl/strings/str_cat.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "google/rpc/error_details.pb.h"

namespace moelight {
namespace {

constexpr char kQuotaFailureUrl[] = "type.googleapis.com/google.rpc.QuotaFailure";
constexpr char kRetryInfoUrl[] = "type.googleapis.com/google.rpc.RetryInfo";

// The writer empties a full queue within a few commits.
constexpr int32_t kQueueRetryNanos = 50'000'000;
// Queued rows leave at the engine's pace.
constexpr int64_t kLevelRetrySeconds = 10;

void AddRetryInfo(absl::Status& status, int64_t seconds, int32_t nanos) {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(seconds);
  retry.mutable_retry_delay()->set_nanos(nanos);
  status.SetPayload(kRetryInfoUrl, absl::Cord(retry.SerializeAsString()));
}

}  // namespace

absl::Status LimitError(const LimitHit& hit) {
  const std::string description =
      absl::StrCat(hit.key, " is ", hit.limit, "; ", hit.value, " would be needed");
  absl::Status status = absl::ResourceExhaustedError(absl::StrCat(hit.subject, ": ", description));
  google::rpc::QuotaFailure failure;
  google::rpc::QuotaFailure::Violation* violation = failure.add_violations();
  violation->set_subject(std::string(hit.subject));
  violation->set_description(description);
  status.SetPayload(kQuotaFailureUrl, absl::Cord(failure.SerializeAsString()));
  if (hit.passes) AddRetryInfo(status, kLevelRetrySeconds, 0);
  return status;
}

absl::Status NoJobError(absl::string_view job_id) {
  return absl::NotFoundError(absl::StrCat("there is no job \"", job_id, "\""));
}

absl::Status QueueFullError(absl::string_view queue, int64_t limit) {
  absl::Status status = absl::ResourceExhaustedError(
      absl::StrCat("the job store's ", queue, " is full, limit ", limit));
  AddRetryInfo(status, 0, kQueueRetryNanos);
  return status;
}

google::rpc::Status RowError(absl::StatusCode code, absl::string_view message,
                             absl::string_view reason) {
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain("moelight");
  google::rpc::Status error;
  error.set_code(static_cast<int32_t>(code));
  error.set_message(std::string(message));
  error.add_details()->PackFrom(info);
  return error;
}

std::string SerializeDeterministic(const google::protobuf::MessageLite& message) {
  std::string bytes;
  bytes.reserve(message.ByteSizeLong());
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

}  // namespace moelight
