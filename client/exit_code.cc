#include "client/exit_code.h"

#include <absl/strings/cord.h>
#include <absl/strings/str_cat.h>

namespace moelight::client {
namespace {

constexpr absl::string_view kUsageUrl = "moelight/usage";
constexpr absl::string_view kLocalUrl = "moelight/local";
constexpr absl::string_view kHintUrl = "moelight/hint";

}  // namespace

absl::Status UsageError(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kUsageUrl, absl::Cord());
  return status;
}

absl::Status LocalError(absl::Status status) {
  if (!status.ok()) status.SetPayload(kLocalUrl, absl::Cord());
  return status;
}

absl::Status WithHint(absl::Status status, absl::string_view hint) {
  if (!status.ok()) status.SetPayload(kHintUrl, absl::Cord(hint));
  return status;
}

ExitCode ExitCodeFor(const absl::Status& status) {
  if (status.GetPayload(kUsageUrl).has_value() || status.GetPayload(kLocalUrl).has_value()) {
    return kUsage;
  }
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kUnreachable;
    case absl::StatusCode::kNotFound:
      return kNotFound;
    case absl::StatusCode::kCancelled:
      return kInterrupted;
    default:
      return kRefused;
  }
}

std::string HintFor(const absl::Status& status, absl::string_view server) {
  if (const auto hint = status.GetPayload(kHintUrl); hint.has_value()) {
    return std::string(*hint);
  }
  if (status.GetPayload(kLocalUrl).has_value()) return "";
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      return absl::StrCat("Is moelightd running at ", server,
                          "? Start it with `moelightd serve --config config.yaml`, or name another "
                          "address with `moelight --server HOST:PORT` or MOELIGHT_SERVER.");
    case absl::StatusCode::kDeadlineExceeded:
      return "The server did not answer in time; give it longer with `--timeout SECONDS`.";
    case absl::StatusCode::kNotFound:
      return "`moelight list` shows the jobs there are.";
    case absl::StatusCode::kResourceExhausted:
      return "`moelight info` shows the server's limits.";
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return "The server wants a client certificate: `--tls-cert FILE --tls-key FILE`.";
    default:
      return "";
  }
}

}  // namespace moelight::client
