// Command-line arguments against a table of options.
//
// Accepts --name VALUE, --name=VALUE, -o VALUE, -oVALUE, "--" before positionals that begin with a
// dash, and options before, between and after positionals.
//
// Threads: values. Errors: UsageError naming the argument.
#ifndef MOELIGHT_CLIENT_ARGS_H_
#define MOELIGHT_CLIENT_ARGS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

namespace moelight::client {

struct OptionSpec {
  std::string name;         // without dashes
  char short_name = '\0';   // '\0': none
  std::string placeholder;  // of its value; empty: a flag
  std::string help;
};

class ParsedArgs {
 public:
  bool Has(absl::string_view name) const;
  // The last value given.
  std::optional<std::string> Get(absl::string_view name) const;
  std::vector<std::string> GetAll(absl::string_view name) const;
  // The value as an integer or a number within [min, max]; `fallback` if it was not given.
  absl::StatusOr<int64_t> GetInt(absl::string_view name, int64_t fallback, int64_t min,
                                 int64_t max) const;
  // Seconds, written as a number of them or as 90s, 15m, 12h or 7d; 0 if it was not given.
  absl::StatusOr<int64_t> GetSeconds(absl::string_view name, int64_t max) const;
  absl::StatusOr<double> GetDouble(absl::string_view name, double fallback, double min,
                                   double max) const;
  const std::vector<std::string>& positionals() const { return positionals_; }

 private:
  friend absl::StatusOr<ParsedArgs> ParseArgs(const std::vector<OptionSpec>& specs,
                                              const std::vector<std::string>& args);
  std::map<std::string, std::vector<std::string>, std::less<>> values_;
  std::vector<std::string> positionals_;
};

absl::StatusOr<ParsedArgs> ParseArgs(const std::vector<OptionSpec>& specs,
                                     const std::vector<std::string>& args);

// "  -o, --output FILE   what it does", one line each, help texts aligned and wrapped.
std::string DescribeOptions(const std::vector<OptionSpec>& specs);

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_ARGS_H_
