// BenchWorkload: requests like those of the papers that we compare with, by length alone: prompts
// are random token ids, and answers have a fixed length or end by chance.
//
// Pure functions: the same request of the same workload is the same on every machine.
#ifndef MOELIGHT_SERVER_BENCH_WORKLOAD_H_
#define MOELIGHT_SERVER_BENCH_WORKLOAD_H_

#include <cstdint>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "engine/engine.h"
#include "engine/request.h"

namespace moelight {

struct BenchWorkload {
  absl::string_view name;
  double mean_prompt_tokens;  // of the lengths as drawn
  int32_t max_prompt_tokens;  // longer draws are cut to it
  int32_t num_output_tokens;  // of every request
  double spread;              // exponent of the log-logistic distribution; 0: all alike
  // How a run varies what the table says.
  bool has_geometric_lengths = false;    // num_output_tokens is a mean: the engine ends by chance
  int32_t num_shared_prefix_tokens = 0;  // the same before every prompt, not counted above
};
absl::Span<const BenchWorkload> BenchWorkloads();
// InvalidArgument with the list of names.
absl::StatusOr<const BenchWorkload*> FindBenchWorkload(absl::string_view name);

// What a policy is made for when it runs this.
WorkloadHint HintFor(const BenchWorkload& workload);

// The most tokens that an answer can have.
int32_t MaxOutputTokens(const BenchWorkload& workload);

// The prompt length of each request, without the shared prefix. Their mean is the workload's to
// within one token, for any number of them: they are evenly spaced quantiles in an order drawn from
// a fixed seed.
std::vector<int32_t> DrawPromptLengths(const BenchWorkload& workload, int64_t num_requests);

// Greedy; end of sequence is ignored unless lengths are geometric. All requests are of one client
// and one job. Token ids behind the shared prefix are drawn from a seed of this `index`.
GenerateRequest MakeBenchRequest(const BenchWorkload& workload, int64_t index,
                                 int32_t num_prompt_tokens, int32_t vocab_size);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_BENCH_WORKLOAD_H_
