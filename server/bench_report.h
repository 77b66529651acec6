// BenchReport: the figures of one run, as JSON for machines and as lines for people. Every figure
// stands beside its roof: the probed rate of the link, and the busiest lane of a step.
//
// Pure functions.
#ifndef MOELIGHT_SERVER_BENCH_REPORT_H_
#define MOELIGHT_SERVER_BENCH_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "engine/engine.h"
#include "server/bench_recorder.h"

namespace moelight {

struct BenchRun {
  std::string workload;
  std::string lengths = "fixed";  // of answers: fixed or geometric
  int64_t num_shared_prefix_tokens = 0;
  int64_t num_requests = 0;
  int64_t num_succeeded = 0;
  int64_t num_failed = 0;
  bool stopped_early = false;  // by --steady-steps; the rest was cancelled
  double seconds = 0;          // from the first Submit to the last OnFinish, or to the stop
  int64_t num_generated_tokens = 0;
  int64_t num_prompt_tokens = 0;
  int32_t num_layers = 0;  // that the model was cut to; 0: whole
  ModelInfo model;
  PlanInfo plan;
  std::vector<double> expert_shares;  // as in EngineStats
  std::optional<LinkRates> link;      // absent: the device has none
  std::vector<BenchStep> steps;
};

nlohmann::ordered_json BenchRunToJson(const BenchRun& run);
std::string BenchRunSummary(const BenchRun& run);  // about ten lines

nlohmann::ordered_json LinkRatesToJson(const LinkRates& link);
std::string LinkRatesTable(const LinkRates& link);

// The row of 16 MiB, or the largest below it. Null if there is none.
const LinkRates::Row* RoofOfLink(const std::optional<LinkRates>& link);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_BENCH_REPORT_H_
