// RefusedCall: a stream that ends with an error before it began.
//
// Deletes itself when gRPC is done with it.
#ifndef MOELIGHT_SERVER_REFUSED_CALL_H_
#define MOELIGHT_SERVER_REFUSED_CALL_H_

#include <absl/status/status.h>

#include "server/convert.h"

namespace moelight {

// `Reactor` is the base that the method returns: grpc::ServerWriteReactor<Response> and so on.
template <typename Reactor>
class RefusedCall final : public Reactor {
 public:
  static Reactor* Start(const absl::Status& status) { return new RefusedCall(status); }
  void OnDone() override { delete this; }

 private:
  explicit RefusedCall(const absl::Status& status) { this->Finish(ToGrpcStatus(status)); }
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_REFUSED_CALL_H_
