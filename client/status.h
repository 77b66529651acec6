// Between gRPC's status and absl::Status.
#ifndef MOELIGHT_CLIENT_STATUS_H_
#define MOELIGHT_CLIENT_STATUS_H_

#include <absl/status/status.h>
#include <absl/strings/string_view.h>
#include <grpcpp/support/status.h>

namespace moelight::client {

// Under this payload URL a Status carries the serialized google.rpc.Status that the server sent
// along, with ErrorInfo, BadRequest, QuotaFailure or RetryInfo in its details.
inline constexpr absl::string_view kRpcStatusUrl = "type.googleapis.com/google.rpc.Status";

// Same code, same message, and the details as a payload.
absl::Status ToAbslStatus(const grpc::Status& status);

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_STATUS_H_
