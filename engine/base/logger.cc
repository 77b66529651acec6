#include "engine/base/logger.h"

#include <nlohmann/json.hpp>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace moelight {
namespace {

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::info;
}

// A JSON string literal. Bytes that are not UTF-8 are replaced, so that a log line always parses.
std::string Quote(absl::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool NeedsQuotes(absl::string_view value) {
  return value.empty() || value.find_first_of(" \t\n\"=\\") != absl::string_view::npos;
}

}  // namespace

absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text) {
  if (text == "debug") return LogLevel::kDebug;
  if (text == "info") return LogLevel::kInfo;
  if (text == "warning") return LogLevel::kWarning;
  if (text == "error") return LogLevel::kError;
  if (text == "off") return LogLevel::kOff;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is not a log level: debug, info, warning, error, off"));
}

absl::StatusOr<LogFormat> ParseLogFormat(absl::string_view text) {
  if (text == "text") return LogFormat::kText;
  if (text == "json") return LogFormat::kJson;
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a log format: text, json"));
}

Logger::Logger(LogLevel level, LogFormat format)
    : format_(format),
      sink_(std::make_shared<spdlog::logger>("moelight",
                                             std::make_shared<spdlog::sinks::stderr_sink_mt>())) {
  sink_->set_pattern(format == LogFormat::kJson ? "{\"time\":\"%Y-%m-%dT%H:%M:%S.%e%z\",%v}"
                                                : "%Y-%m-%dT%H:%M:%S.%e%z %-7l %v");
  sink_->flush_on(spdlog::level::debug);
  set_level(level);
}

Logger::~Logger() = default;

Logger& Logger::Null() {
  static Logger* const null = new Logger(LogLevel::kOff, LogFormat::kText);
  return *null;
}

void Logger::set_level(LogLevel level) { sink_->set_level(ToSpdlog(level)); }

void Logger::Debug(absl::string_view event, std::initializer_list<LogField> fields) {
  Log(LogLevel::kDebug, event, fields);
}
void Logger::Info(absl::string_view event, std::initializer_list<LogField> fields) {
  Log(LogLevel::kInfo, event, fields);
}
void Logger::Warning(absl::string_view event, std::initializer_list<LogField> fields) {
  Log(LogLevel::kWarning, event, fields);
}
void Logger::Error(absl::string_view event, std::initializer_list<LogField> fields) {
  Log(LogLevel::kError, event, fields);
}

void Logger::Log(LogLevel level, absl::string_view event, std::initializer_list<LogField> fields) {
  const spdlog::level::level_enum spdlog_level = ToSpdlog(level);
  if (!sink_->should_log(spdlog_level)) return;
  std::string line;
  if (format_ == LogFormat::kJson) {
    const spdlog::string_view_t name = spdlog::level::to_string_view(spdlog_level);
    line = absl::StrCat("\"level\":\"", absl::string_view(name.data(), name.size()),
                        "\",\"event\":", Quote(event));
    for (const LogField& field : fields) {
      absl::StrAppend(&line, ",", Quote(field.key), ":",
                      field.quoted ? Quote(field.value) : field.value);
    }
  } else {
    line = std::string(event);
    for (const LogField& field : fields) {
      absl::StrAppend(&line, " ", field.key, "=",
                      NeedsQuotes(field.value) ? Quote(field.value) : field.value);
    }
  }
  sink_->log(spdlog_level, "{}", line);
}

}  // namespace moelight
