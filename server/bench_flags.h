// BenchFlag: a row of the table of arguments that one `moelightd bench` command takes.
//
// Pure functions. Errors: InvalidArgument naming the argument and what it may be.
#ifndef MOELIGHT_SERVER_BENCH_FLAGS_H_
#define MOELIGHT_SERVER_BENCH_FLAGS_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include <absl/status/status.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

namespace moelight {

// Bytes, written 4GiB.
struct BenchSize {
  int64_t bytes = 0;
};

// Numbers with a separator between: "1,4,8", or "32/8".
struct BenchNumbers {
  std::vector<int64_t> values;
  char separator = ',';
  size_t count = 0;  // so many, no more and no fewer; 0: at least one
};

struct BenchFlag {
  absl::string_view name;  // "--requests"
  // Where its value goes, and of what kind it is. A bool stands without a value and becomes true; a
  // list of texts takes the flag many times.
  std::variant<bool*, std::string*, std::vector<std::string>*, int64_t*, BenchSize*, BenchNumbers*>
      value;
  int64_t min = 0;  // of numbers and sizes
  int64_t max = 0;
};

// Reads `args`, in the forms "--name=value" and "--name value". `command` is for messages: "plan".
absl::Status ParseBenchFlags(absl::string_view command, absl::Span<const std::string> args,
                             absl::Span<const BenchFlag> flags);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_BENCH_FLAGS_H_
