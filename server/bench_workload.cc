#include "server/bench_workload.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "engine/base/check.h"

namespace moelight {
namespace {

constexpr uint64_t kSeed = 20240617;  // any number, but always the same
constexpr char kGroupName[] = "bench";
// Times the mean: 3 answers in 10,000 would be longer.
constexpr int32_t kLongestGeometric = 8;

// Mean, maximum and output of the MoE-Lightning paper's workloads. The spread leaves a few percent
// of the prompts at the maximum where mean and maximum are near, as in the data sets.
constexpr BenchWorkload kWorkloads[] = {
    {"mtbench", 77, 418, 128, 0.4},
    {"reasoning", 242, 256, 50, 0.03},
    {"summarization", 1693, 1984, 64, 0.06},
    {"long", 512, 512, 512, 0},
};

// Quantile u of the log-logistic distribution with median `scale`, as a length.
int32_t Length(const BenchWorkload& workload, double scale, double u) {
  const double tokens = scale * std::pow(u / (1 - u), workload.spread);
  return static_cast<int32_t>(
      std::clamp<double>(std::round(tokens), 1, workload.max_prompt_tokens));
}

std::vector<int32_t> Quantiles(const BenchWorkload& workload, double scale, int64_t count) {
  std::vector<int32_t> lengths(count);
  for (int64_t i = 0; i < count; ++i) lengths[i] = Length(workload, scale, (i + 0.5) / count);
  return lengths;
}

double Mean(const std::vector<int32_t>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

absl::Span<const BenchWorkload> BenchWorkloads() { return kWorkloads; }

absl::StatusOr<const BenchWorkload*> FindBenchWorkload(absl::string_view name) {
  for (const BenchWorkload& workload : kWorkloads) {
    if (workload.name == name) return &workload;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "workload \"", name, "\" is not known; there are: ",
      absl::StrJoin(kWorkloads, ", ", [](std::string* out, const BenchWorkload& workload) {
        absl::StrAppend(out, workload.name);
      })));
}

WorkloadHint HintFor(const BenchWorkload& workload) {
  const int32_t prefix = workload.num_shared_prefix_tokens;
  return {prefix + static_cast<int32_t>(std::lround(workload.mean_prompt_tokens)),
          prefix + workload.max_prompt_tokens, workload.num_output_tokens};
}

int32_t MaxOutputTokens(const BenchWorkload& workload) {
  return workload.has_geometric_lengths ? kLongestGeometric * workload.num_output_tokens
                                        : workload.num_output_tokens;
}

std::vector<int32_t> DrawPromptLengths(const BenchWorkload& workload, int64_t num_requests) {
  CHECK_GT(num_requests, 0);
  // Cutting at the maximum lowers the mean, so the scale that gives the mean asked for is searched.
  // The mean grows with the scale; beyond `high` every length is the maximum.
  double low = 0;
  double high = workload.max_prompt_tokens * std::pow(2.0 * num_requests, workload.spread);
  // Each turn halves the interval; 40 leave far less than a token of any workload.
  for (int turn = 0; turn < 40; ++turn) {
    const double scale = (low + high) / 2;
    const bool is_short =
        Mean(Quantiles(workload, scale, num_requests)) < workload.mean_prompt_tokens;
    (is_short ? low : high) = scale;
  }
  std::vector<int32_t> lengths = Quantiles(workload, high, num_requests);
  // Not std::shuffle, whose order each library chooses for itself.
  std::mt19937_64 random(kSeed);
  for (size_t i = lengths.size(); i > 1; --i) std::swap(lengths[i - 1], lengths[random() % i]);
  return lengths;
}

GenerateRequest MakeBenchRequest(const BenchWorkload& workload, int64_t index,
                                 int32_t num_prompt_tokens, int32_t vocab_size) {
  std::vector<TokenId> prompt;
  const auto draw = [&](uint64_t seed, int32_t num_tokens) {
    std::mt19937_64 random(seed);
    for (int32_t i = 0; i < num_tokens; ++i) {
      prompt.push_back(static_cast<TokenId>(random() % vocab_size));
    }
  };
  draw(kSeed, workload.num_shared_prefix_tokens);
  draw(kSeed + 1 + index, num_prompt_tokens);
  GenerateRequest request;
  request.input = std::move(prompt);
  request.sampling.temperature = 0;
  // Where answers end by chance, those of every run end alike.
  request.sampling.seed = kSeed + 1 + index;
  request.sampling.max_tokens = MaxOutputTokens(workload);
  request.sampling.ignore_eos = !workload.has_geometric_lengths;
  request.group.client = kGroupName;
  request.group.job = kGroupName;
  return request;
}

}  // namespace moelight
