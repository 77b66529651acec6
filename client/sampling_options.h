// Sampling fields as command-line options: "max_tokens" of the JSON body is --max-tokens.
//
// Threads: functions are pure. Errors: UsageError naming the option.
#ifndef MOELIGHT_CLIENT_SAMPLING_OPTIONS_H_
#define MOELIGHT_CLIENT_SAMPLING_OPTIONS_H_

#include <vector>

#include <absl/status/statusor.h>

#include "client/args.h"
#include "moelight/v1/types.pb.h"

namespace moelight::client {

// One per row of SamplingFields(), behind `own`.
std::vector<OptionSpec> WithSamplingOptions(std::vector<OptionSpec> own);
// Fields that were not given stay unset.
absl::StatusOr<v1::SamplingParams> ReadSamplingOptions(const ParsedArgs& args);

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_SAMPLING_OPTIONS_H_
