// Goal: every error carries what a program needs: a reason, the field, the limit or when to retry.
#include <string>

#include <absl/strings/cord.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "server/convert.h"

namespace moelight {
namespace {

template <typename Detail>
bool Find(const google::rpc::Status& status, Detail* detail) {
  for (const google::protobuf::Any& any : status.details()) {
    if (any.UnpackTo(detail)) return true;
  }
  return false;
}

TEST(ToRpcStatusTest, OkHasNoDetails) {
  EXPECT_EQ(ToRpcStatus(absl::OkStatus()).code(), 0);
  EXPECT_EQ(ToRpcStatus(absl::OkStatus()).details_size(), 0);
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
}

TEST(ToRpcStatusTest, ErrorInfoNamesTheReason) {
  const struct {
    absl::Status status;
    int code;
    const char* reason;
  } rows[] = {
      {absl::InvalidArgumentError("x"), 3, "INVALID_REQUEST"},
      {absl::NotFoundError("x"), 5, "NOT_FOUND"},
      {absl::AlreadyExistsError("x"), 6, "ALREADY_EXISTS_WITH_OTHER_CONTENT"},
      {absl::ResourceExhaustedError("x"), 8, "LIMIT_REACHED"},
      {absl::FailedPreconditionError("x"), 9, "WRONG_STATE"},
      {absl::OutOfRangeError("x"), 11, "OFFSET_OUT_OF_RANGE"},
      {absl::UnimplementedError("x"), 12, "NOT_IN_THIS_VERSION"},
      {absl::UnavailableError("x"), 14, "NOT_READY"},
      {absl::PermissionDeniedError("x"), 7, "NOT_ALLOWED"},
      {absl::UnauthenticatedError("x"), 16, "NO_VALID_KEY"},
      {absl::DataLossError("x"), 15, "INTERNAL"},
  };
  for (const auto& row : rows) {
    const google::rpc::Status status = ToRpcStatus(row.status);
    EXPECT_EQ(status.code(), row.code);
    google::rpc::ErrorInfo info;
    ASSERT_TRUE(Find(status, &info));
    EXPECT_EQ(info.reason(), row.reason);
    EXPECT_EQ(info.domain(), "moelight");
  }
}

TEST(ToRpcStatusTest, BadRequestNamesTheFieldWhereThereIsOne) {
  const struct {
    const char* message;
    const char* field;  // empty: no BadRequest
    const char* description;
  } rows[] = {
      {"prompt.chat.messages[2].role: empty", "prompt.chat.messages[2].role", "empty"},
      {"sampling.top_p is 2, limit 1", "sampling.top_p", "is 2, limit 1"},
      {"job_id: empty", "job_id", "empty"},
      {"prompt has 9000 tokens", "", ""},
      {"Something: else", "", ""},
      {"e.g. nothing", "", ""},
      {"", "", ""},
      {"word", "", ""},
  };
  for (const auto& row : rows) {
    google::rpc::BadRequest detail;
    const bool found = Find(ToRpcStatus(absl::InvalidArgumentError(row.message)), &detail);
    EXPECT_EQ(found, row.field[0] != '\0') << row.message;
    if (!found) continue;
    EXPECT_EQ(detail.field_violations(0).field(), row.field);
    EXPECT_EQ(detail.field_violations(0).description(), row.description);
  }
}

TEST(ToRpcStatusTest, LimitsNameTheKeyAndQueuesTheDelay) {
  google::rpc::QuotaFailure quota;
  google::rpc::RetryInfo retry;
  const google::rpc::Status limit = ToRpcStatus(
      absl::ResourceExhaustedError("row has 9 bytes, limit 8 (server.limits.row_bytes)"));
  ASSERT_TRUE(Find(limit, &quota));
  EXPECT_EQ(quota.violations(0).subject(), "server.limits.row_bytes");
  EXPECT_FALSE(Find(limit, &retry));

  const google::rpc::Status full = ToRpcStatus(absl::ResourceExhaustedError("the queue is full"));
  EXPECT_FALSE(Find(full, &quota));
  ASSERT_TRUE(Find(full, &retry));
  EXPECT_EQ(retry.retry_delay().seconds(), 1);
  EXPECT_TRUE(Find(ToRpcStatus(absl::UnavailableError("loading")), &retry));
}

TEST(ToRpcStatusTest, PayloadsAreTakenOver) {
  google::rpc::RetryInfo given;
  given.mutable_retry_delay()->set_seconds(42);
  absl::Status status = absl::ResourceExhaustedError("full");
  status.SetPayload("type.googleapis.com/google.rpc.RetryInfo",
                    absl::Cord(given.SerializeAsString()));
  status.SetPayload("private", absl::Cord("kept to ourselves"));
  const google::rpc::Status proto = ToRpcStatus(status);
  EXPECT_EQ(proto.details_size(), 2);
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(Find(proto, &retry));
  EXPECT_EQ(retry.retry_delay().seconds(), 42);
}

TEST(ToGrpcStatusTest, DetailsTravelAndStayWithinTheTrailersLimit) {
  const grpc::Status status = ToGrpcStatus(absl::InvalidArgumentError("prompt.text: empty"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  google::rpc::Status proto;
  ASSERT_TRUE(proto.ParseFromString(status.error_details()));
  EXPECT_EQ(proto.message(), "prompt.text: empty");

  std::string endless = "prompt.text: x";
  while (endless.size() < 100'000) endless += "é";
  const grpc::Status cut = ToGrpcStatus(absl::InvalidArgumentError(endless));
  EXPECT_LT(cut.error_message().size() + cut.error_details().size() * 4 / 3, 6000);
  // Cut between characters, so that it is still UTF-8.
  EXPECT_TRUE(proto.ParseFromString(cut.error_details()));
}

}  // namespace
}  // namespace moelight
