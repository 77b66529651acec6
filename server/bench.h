// The subcommand bench: the engine without RPC and store, and the link below it.
#ifndef MOELIGHT_SERVER_BENCH_H_
#define MOELIGHT_SERVER_BENCH_H_

#include <string>
#include <vector>

#include "server/serve.h"

namespace moelight {

// `args` are those after "bench". Prints one JSON object to stdout, progress and a summary to
// stderr; returns the exit code, kExitFailure if a request failed.
int RunBench(const std::vector<std::string>& args, const Environment& environment);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_BENCH_H_
