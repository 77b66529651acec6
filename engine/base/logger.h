// Logger: structured log lines (an event name and fields), as text or as one JSON object per line.
//
// Threads: thread-safe. Never blocks on anything but the write to stderr. Prompts and generated
// text must never be passed as fields.
#ifndef MOELIGHT_ENGINE_BASE_LOGGER_H_
#define MOELIGHT_ENGINE_BASE_LOGGER_H_

#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>

namespace spdlog {
class logger;
}

namespace moelight {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };
enum class LogFormat { kText, kJson };

absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text);    // debug|info|warning|error|off
absl::StatusOr<LogFormat> ParseLogFormat(absl::string_view text);  // text|json

// One key with its value. Numbers stay numbers in JSON.
struct LogField {
  LogField(absl::string_view key, absl::string_view value) : key(key), value(value), quoted(true) {}
  LogField(absl::string_view key, const char* value) : key(key), value(value), quoted(true) {}
  LogField(absl::string_view key, const std::string& value)
      : key(key), value(value), quoted(true) {}
  LogField(absl::string_view key, bool value)
      : key(key), value(value ? "true" : "false"), quoted(false) {}
  template <typename Number>
  requires std::is_arithmetic_v<Number> LogField(absl::string_view key, Number number)
      : key(key), value(absl::StrCat(number)) {}

  absl::string_view key;
  std::string value;
  bool quoted = false;
};

class Logger {
 public:
  Logger(LogLevel level, LogFormat format);  // writes to stderr
  ~Logger();
  // A logger that drops everything, for tests and tools.
  static Logger& Null();

  void Debug(absl::string_view event, std::initializer_list<LogField> fields = {});
  void Info(absl::string_view event, std::initializer_list<LogField> fields = {});
  void Warning(absl::string_view event, std::initializer_list<LogField> fields = {});
  void Error(absl::string_view event, std::initializer_list<LogField> fields = {});
  void set_level(LogLevel level);

 private:
  void Log(LogLevel level, absl::string_view event, std::initializer_list<LogField> fields);

  LogFormat format_;
  std::shared_ptr<spdlog::logger> sink_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_LOGGER_H_
