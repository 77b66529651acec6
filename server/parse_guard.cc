#include "server/parse_guard.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include "server/convert.h"

namespace moelight {
namespace {

absl::Status ParseError() {
  return absl::InvalidArgumentError(
      "the request is not a valid message of its type: its bytes are damaged, or a text in it is "
      "not UTF-8");
}

// One for each call. gRPC never runs two hooks of a call at once.
class ParseGuard final : public grpc::experimental::Interceptor {
 public:
  explicit ParseGuard(bool has_one_request) : has_one_request_(has_one_request) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using Point = grpc::experimental::InterceptionHookPoints;
    if (has_one_request_ && methods->QueryInterceptionHookPoint(Point::POST_RECV_MESSAGE) &&
        methods->GetRecvMessage() == nullptr) {
      failed_ = true;
    }
    if (failed_ && methods->QueryInterceptionHookPoint(Point::PRE_SEND_STATUS)) {
      methods->ModifySendStatus(ToGrpcStatus(ParseError()));
    }
    methods->Proceed();
  }

 private:
  const bool has_one_request_;  // in a stream of requests, no message means its end
  bool failed_ = false;
};

class ParseGuardFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    using Type = grpc::experimental::ServerRpcInfo::Type;
    return new ParseGuard(info->type() == Type::UNARY || info->type() == Type::SERVER_STREAMING);
  }
};

}  // namespace

absl::Status ParseMessage(grpc::ByteBuffer* bytes, google::protobuf::Message* message) {
  const grpc::Status status =
      grpc::SerializationTraits<google::protobuf::Message>::Deserialize(bytes, message);
  return status.ok() ? absl::OkStatus() : ParseError();
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeParseGuard() {
  return std::make_unique<ParseGuardFactory>();
}

}  // namespace moelight
