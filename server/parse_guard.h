// What becomes of requests that are not the protobuf message they should be, text that is not UTF-8
// included: INVALID_ARGUMENT with the same details as every other error.
//
// Threads: thread-safe.
#ifndef MOELIGHT_SERVER_PARSE_GUARD_H_
#define MOELIGHT_SERVER_PARSE_GUARD_H_

#include <memory>

#include <absl/status/status.h>
#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_interceptor.h>

namespace moelight {

// Parses the bytes of one message and releases them.
absl::Status ParseMessage(grpc::ByteBuffer* bytes, google::protobuf::Message* message);

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message);

// For methods whose messages gRPC parses. On its own it answers UNIMPLEMENTED to what it cannot
// parse, which tells a client to give up on the method.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeParseGuard();

}  // namespace moelight

#endif  // MOELIGHT_SERVER_PARSE_GUARD_H_
