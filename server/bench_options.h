// BenchOptions: the arguments of `moelightd bench`.
#ifndef MOELIGHT_SERVER_BENCH_OPTIONS_H_
#define MOELIGHT_SERVER_BENCH_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include <absl/status/statusor.h>

#include "server/bench_kernels.h"

namespace moelight {

struct BenchOptions {
  std::string command;  // a row of the commands in bench_options.cc
  std::string config = "config.yaml";
  std::vector<std::string> overrides;  // "key=value"
  // Of throughput only:
  std::string workload = "mtbench";  // a row of BenchWorkloads()
  int64_t num_requests = 1000;
  std::string lengths = "fixed";         // of answers: fixed or geometric
  int64_t num_shared_prefix_tokens = 0;  // that all prompts begin with
  int64_t num_layers = 0;                // the model is cut to its first layers; 0: whole
  std::string trace_file;                // empty: no step trace
  int64_t trace_steps = 16;              // recorded
  int64_t trace_after = 0;               // steps that pass before
  int64_t steady_steps =
      0;  // the run ends after so many steps with a full batch; 0: run to the end
  // Of attention and experts only:
  KernelBenchOptions kernels;
};

// `args` are those after "bench". InvalidArgument naming the argument.
absl::StatusOr<BenchOptions> ParseBenchOptions(const std::vector<std::string>& args);

// For --help.
extern const char kBenchHelp[];

}  // namespace moelight

#endif  // MOELIGHT_SERVER_BENCH_OPTIONS_H_
