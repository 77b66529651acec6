// The store's refusals with machine-readable details, and the error records it writes itself.
//
// An absl::Status carries a detail as a payload: the type URL and the serialized message.
#ifndef MOELIGHT_SERVER_STORE_STORE_ERRORS_H_
#define MOELIGHT_SERVER_STORE_STORE_ERRORS_H_

#include <cstdint>
#include <string>

#include <absl/status/status.h>
#include <absl/strings/string_view.h>
#include <google/protobuf/message_lite.h>

#include "google/rpc/status.pb.h"

namespace moelight {

// ResourceExhausted with a QuotaFailure naming the configuration key, its value and what was asked
// for. `subject` is what the limit counts for, for example a job id.
struct LimitHit {
  absl::string_view key;  // "server.limits.rows_per_job"
  int64_t limit = 0;
  int64_t value = 0;
  absl::string_view subject;
  bool passes = false;  // the level falls by itself: RetryInfo is added
};
absl::Status LimitError(const LimitHit& hit);

// NotFound. The same for a job that is another's, so that nobody learns of it.
absl::Status NoJobError(absl::string_view job_id);

// ResourceExhausted with a RetryInfo: the store's own queue is full for the moment.
absl::Status QueueFullError(absl::string_view queue, int64_t limit);

// An error for a row's record, with an ErrorInfo.
google::rpc::Status RowError(absl::StatusCode code, absl::string_view message,
                             absl::string_view reason);

// Equal messages give equal bytes, whatever the order of their maps.
std::string SerializeDeterministic(const google::protobuf::MessageLite& message);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_STORE_ERRORS_H_
