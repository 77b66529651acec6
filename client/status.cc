#include "client/status.h"

#include <absl/strings/cord.h>

namespace moelight::client {

absl::Status ToAbslStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  // The numbers of both enums are those of google.rpc.Code.
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  if (!status.error_details().empty()) {
    result.SetPayload(kRpcStatusUrl, absl::Cord(status.error_details()));
  }
  return result;
}

}  // namespace moelight::client
