#include "client/render.h"

#include <algorithm>

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/strip.h>

namespace moelight::client {
namespace {

using Json = nlohmann::ordered_json;

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

Json TimeJson(bool is_set, const google::protobuf::Timestamp& time) {
  if (!is_set) return nullptr;
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", ToTime(time), absl::UTCTimeZone());
}

}  // namespace

std::string StateName(v1::BatchJob::State state) {
  const std::string name = v1::BatchJob::State_Name(state);
  if (name.empty()) return absl::StrCat("STATE_", static_cast<int>(state));
  return std::string(absl::StripPrefix(name, "STATE_"));
}

std::string WithCommas(int64_t number) {
  const std::string digits = absl::StrCat(number);
  const size_t first_digit = number < 0 ? 1 : 0;
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > first_digit && (digits.size() - i) % 3 == 0) text.push_back(',');
    text.push_back(digits[i]);
  }
  return text;
}

std::string ClockTime(absl::Duration duration) {
  // Beyond a century nobody reads the digits, and the arithmetic below stays in range.
  const int64_t seconds = std::clamp<int64_t>(absl::ToInt64Seconds(duration), 0, 3'155'760'000);
  const int64_t minutes = seconds / 60;
  const int64_t hours = minutes / 60;
  if (hours >= 24) return absl::StrFormat("%dd %02d:%02d", hours / 24, hours % 24, minutes % 60);
  if (hours > 0) return absl::StrFormat("%d:%02d:%02d", hours, minutes % 60, seconds % 60);
  return absl::StrFormat("%d:%02d", minutes, seconds % 60);
}

std::string LocalTime(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", ToTime(time), absl::LocalTimeZone());
}

Json JobJson(const v1::BatchJob& job) {
  Json labels = Json::object();
  for (const auto& [key, value] : job.labels()) labels[key] = value;
  Json error = nullptr;
  if (job.has_error()) {
    error = {{"code", job.error().code()}, {"message", job.error().message()}};
  }
  return {{"job_id", job.job_id()},
          {"display_name", job.display_name()},
          {"state", StateName(job.state())},
          {"num_rows", job.num_rows()},
          {"num_succeeded", job.num_succeeded()},
          {"num_failed", job.num_failed()},
          {"num_cancelled", job.num_cancelled()},
          {"prompt_tokens", job.prompt_tokens()},
          {"shared_prompt_tokens", job.shared_prompt_tokens()},
          {"generated_tokens", job.generated_tokens()},
          {"create_time", TimeJson(job.has_create_time(), job.create_time())},
          {"start_time", TimeJson(job.has_start_time(), job.start_time())},
          {"end_time", TimeJson(job.has_end_time(), job.end_time())},
          {"expire_time", TimeJson(job.has_expire_time(), job.expire_time())},
          {"estimated_end_time", TimeJson(job.has_estimated_end_time(), job.estimated_end_time())},
          {"deadline_unreachable", job.deadline_unreachable()},
          {"client", job.client()},
          {"priority", job.priority()},
          {"labels", std::move(labels)},
          {"error", std::move(error)}};
}

std::string ToLine(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string Table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const std::vector<std::string>& row : rows) {
    if (widths.size() < row.size()) widths.resize(row.size());
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const std::vector<std::string>& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      std::string cell = row[i];
      std::replace_if(
          cell.begin(), cell.end(), [](unsigned char c) { return absl::ascii_iscntrl(c); }, '?');
      absl::StrAppendFormat(&line, "%-*s  ", static_cast<int>(widths[i]), cell);
    }
    absl::StrAppend(&text, absl::StripTrailingAsciiWhitespace(line), "\n");
  }
  return text;
}

}  // namespace moelight::client
