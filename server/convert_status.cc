// absl::Status as google.rpc.Status and grpc::Status: which details a status gets.
#include <algorithm>
#include <iterator>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>
#include <absl/strings/strip.h>

#include "google/rpc/error_details.pb.h"
#include "server/convert.h"

namespace moelight {
namespace {

constexpr absl::string_view kTypePrefix = "type.googleapis.com/";
constexpr char kDomain[] = "moelight";

// The message travels up to three times in the trailers, and clients refuse more than 8 KiB.
constexpr size_t kMaxMessageBytes = 1024;

constexpr int kRetryDelaySeconds = 1;

// The last row is for every other code.
constexpr ErrorReason kReasons[] = {
    {absl::StatusCode::kInvalidArgument, "INVALID_REQUEST",
     "a field has a value that is never valid; BadRequest names it. Correct it"},
    {absl::StatusCode::kOutOfRange, "OFFSET_OUT_OF_RANGE",
     "rows or results were addressed past the end. Ask GetBatchJob for num_rows and go on there"},
    {absl::StatusCode::kNotFound, "NOT_FOUND",
     "there is no such job or model, or it is another tenant's; jobs go when they are deleted, and "
     "store.retention after their end"},
    {absl::StatusCode::kAlreadyExists, "ALREADY_EXISTS_WITH_OTHER_CONTENT",
     "the request_id or the rows were handed in before, and differ. Take a new id"},
    {absl::StatusCode::kFailedPrecondition, "WRONG_STATE",
     "the job or the trace is not in a state for this call; the message says which it is in"},
    {absl::StatusCode::kResourceExhausted, "LIMIT_REACHED",
     "a limit is reached. With QuotaFailure: the configuration key of the limit; make the request "
     "smaller, or wait until jobs end. With RetryInfo: full for the moment, try again"},
    {absl::StatusCode::kUnavailable, "NOT_READY",
     "the model is being loaded or the daemon stops. RetryInfo says when to try again"},
    {absl::StatusCode::kUnauthenticated, "NO_VALID_KEY",
     "the daemon wants an API key, and the call has none or one that it does not know"},
    {absl::StatusCode::kPermissionDenied, "NOT_ALLOWED",
     "the key is valid and its tenant may not make this call"},
    {absl::StatusCode::kCancelled, "CANCELLED", "the client or CancelBatchJob ended it"},
    {absl::StatusCode::kDeadlineExceeded, "EXPIRED",
     "expire_time of the job passed before the row was done"},
    {absl::StatusCode::kUnimplemented, "NOT_IN_THIS_VERSION",
     "the daemon does not have this method or this value of a field"},
    {absl::StatusCode::kInternal, "INTERNAL", "our fault. The daemon's log has more; report it"},
};

const char* Reason(absl::StatusCode code) {
  for (const ErrorReason& row : kReasons) {
    if (row.code == code) return row.reason;
  }
  return std::end(kReasons)[-1].reason;
}

bool IsPathCharacter(char c) {
  return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_' || c == '.' || c == '[' ||
         c == ']';
}

// Field path at the start of a message: "sampling.top_p: ..." or "sampling.top_p is ...". One word
// counts only before a colon, or it could be plain English. Empty: there is none.
absl::string_view FieldPath(absl::string_view message) {
  const size_t end =
      std::find_if_not(message.begin(), message.end(), IsPathCharacter) - message.begin();
  const absl::string_view path = message.substr(0, end);
  if (path.empty() || end == message.size() || !absl::ascii_islower(path[0])) return "";
  if (message[end] == ':') return path;
  const bool is_compound = path.find_first_of("._[") != absl::string_view::npos;
  return message[end] == ' ' && is_compound && path.back() != '.' ? path : "";
}

// Configuration key named anywhere in a message ("server.limits.jobs"); empty: there is none.
absl::string_view ConfigKey(absl::string_view message) {
  for (absl::string_view root : {"server.limits.", "engine.max_", "store."}) {
    const size_t begin = message.find(root);
    if (begin == absl::string_view::npos) continue;
    const absl::string_view rest = message.substr(begin);
    const auto end = std::find_if_not(rest.begin(), rest.end(), [](char c) {
      return absl::ascii_islower(c) || c == '_' || c == '.';
    });
    return absl::StripSuffix(rest.substr(0, end - rest.begin()), ".");
  }
  return "";
}

bool HasDetail(const google::rpc::Status& status, const google::protobuf::Message& message) {
  const std::string url = absl::StrCat(kTypePrefix, message.GetDescriptor()->full_name());
  return std::any_of(status.details().begin(), status.details().end(),
                     [&](const google::protobuf::Any& any) { return any.type_url() == url; });
}

void AddDetail(const google::protobuf::Message& message, google::rpc::Status& status) {
  if (!HasDetail(status, message)) status.add_details()->PackFrom(message);
}

void AddErrorInfo(absl::StatusCode code, google::rpc::Status& status) {
  google::rpc::ErrorInfo info;
  info.set_reason(Reason(code));
  info.set_domain(kDomain);
  AddDetail(info, status);
}

void AddBadRequest(absl::string_view message, google::rpc::Status& status) {
  const absl::string_view path = FieldPath(message);
  if (path.empty()) return;
  google::rpc::BadRequest bad_request;
  google::rpc::BadRequest::FieldViolation& violation = *bad_request.add_field_violations();
  violation.set_field(std::string(path));
  const absl::string_view rest = absl::StripPrefix(message.substr(path.size()), ":");
  violation.set_description(std::string(absl::StripLeadingAsciiWhitespace(rest)));
  AddDetail(bad_request, status);
}

void AddQuotaOrRetry(absl::StatusCode code, absl::string_view message,
                     google::rpc::Status& status) {
  const absl::string_view key = ConfigKey(message);
  if (code == absl::StatusCode::kResourceExhausted && !key.empty()) {
    google::rpc::QuotaFailure quota;
    google::rpc::QuotaFailure::Violation& violation = *quota.add_violations();
    violation.set_subject(std::string(key));
    violation.set_description(std::string(message));
    AddDetail(quota, status);
    return;
  }
  if (HasDetail(status, google::rpc::QuotaFailure::default_instance())) return;
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(kRetryDelaySeconds);
  AddDetail(retry, status);
}

// At most kMaxMessageBytes, never ending within a UTF-8 character.
absl::string_view Truncate(absl::string_view message) {
  if (message.size() <= kMaxMessageBytes) return message;
  size_t end = kMaxMessageBytes;
  while (end > 0 && (message[end] & 0xC0) == 0x80) --end;
  return message.substr(0, end);
}

}  // namespace

absl::Span<const ErrorReason> ErrorReasons() { return kReasons; }

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  google::rpc::Status proto;
  proto.set_code(static_cast<int>(status.code()));
  if (status.ok()) return proto;
  const absl::string_view message = Truncate(status.message());
  proto.set_message(std::string(message));
  status.ForEachPayload([&](absl::string_view type_url, const absl::Cord& payload) {
    if (!absl::StartsWith(type_url, kTypePrefix)) return;
    google::protobuf::Any& any = *proto.add_details();
    any.set_type_url(std::string(type_url));
    any.set_value(std::string(payload));
  });
  AddErrorInfo(status.code(), proto);
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      AddBadRequest(message, proto);
      break;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable:
      AddBadRequest(message, proto);
      AddQuotaOrRetry(status.code(), message, proto);
      break;
    default:
      break;
  }
  return proto;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status proto = ToRpcStatus(status);
  return grpc::Status(static_cast<grpc::StatusCode>(proto.code()), proto.message(),
                      proto.SerializeAsString());
}

}  // namespace moelight
