// Jobs, numbers and times as text and JSON, the same in every command.
//
// Threads: functions are pure.
#ifndef MOELIGHT_CLIENT_RENDER_H_
#define MOELIGHT_CLIENT_RENDER_H_

#include <cstdint>
#include <string>
#include <vector>

#include <absl/strings/string_view.h>
#include <absl/time/time.h>
#include <nlohmann/json.hpp>

#include "google/protobuf/timestamp.pb.h"
#include "moelight/v1/batch_job.pb.h"

namespace moelight::client {

std::string StateName(v1::BatchJob::State state);  // "RUNNING"

std::string WithCommas(int64_t number);          // 1234567: "1,234,567"
std::string ClockTime(absl::Duration duration);  // "0:07", "12:34", "3:12:34", "2d 03:12"
std::string LocalTime(const google::protobuf::Timestamp& time);  // "2026-01-31 14:05:09"

// Every field of the job by its protocol name; numbers as numbers, times as RFC 3339 or null.
nlohmann::ordered_json JobJson(const v1::BatchJob& job);

// One line of JSON. Bytes that are not UTF-8 are replaced.
std::string ToLine(const nlohmann::ordered_json& json);

// Columns as wide as their longest cell, two spaces apart. The first row is the header. Control
// characters in cells are replaced, so that a job's name cannot move the cursor.
std::string Table(const std::vector<std::vector<std::string>>& rows);

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_RENDER_H_
