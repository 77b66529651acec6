#include "server/bench_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moelight {
namespace {

using ::testing::ElementsAre;

TEST(BenchOptionsTest, ReadsEveryFlagInBothSpellings) {
  const absl::StatusOr<BenchOptions> options = ParseBenchOptions(
      {"throughput", "--config=a.yaml", "--set", "x=1", "--set=y=2=3", "--workload", "long",
       "--requests=12", "--layers", "4", "--trace=t.json", "--trace-steps", "3", "--trace-after=7",
       "--steady-steps", "5", "--lengths", "geometric", "--shared-prefix=512"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->command, "throughput");
  EXPECT_EQ(options->config, "a.yaml");
  EXPECT_THAT(options->overrides, ElementsAre("x=1", "y=2=3"));
  EXPECT_EQ(options->workload, "long");
  EXPECT_EQ(options->num_requests, 12);
  EXPECT_EQ(options->num_layers, 4);
  EXPECT_EQ(options->trace_file, "t.json");
  EXPECT_EQ(options->trace_steps, 3);
  EXPECT_EQ(options->trace_after, 7);
  EXPECT_EQ(options->steady_steps, 5);
  EXPECT_EQ(options->lengths, "geometric");
  EXPECT_EQ(options->num_shared_prefix_tokens, 512);
}

TEST(BenchOptionsTest, RefusesWhatItDoesNotKnow) {
  const struct {
    std::vector<std::string> args;
    const char* error;
  } rows[] = {
      {{}, "bench needs what to measure: throughput, link, attention or experts"},
      {{"--requests", "1"}, "bench needs what to measure: throughput, link, attention or experts"},
      {{"latency"}, "bench \"latency\" is not throughput, link, attention or experts"},
      {{"throughput", "--request", "1"}, "unknown argument \"--request\" of bench throughput"},
      {{"throughput", "x"}, "unknown argument \"x\" of bench throughput"},
      {{"link", "--requests", "1"}, "unknown argument \"--requests\" of bench link"},
      {{"throughput", "--config"}, "--config needs a value"},
      {{"throughput", "--requests", "0"}, "--requests: \"0\" is not a number of 1 to 10000000"},
      {{"throughput", "--layers=all"}, "--layers: \"all\" is not a number of 1 to 1000"},
      {{"throughput", "--workload", "chat"},
       "workload \"chat\" is not known; there are: mtbench, reasoning, summarization, long"},
      {{"throughput", "--trace-after", "4"},
       "--trace-steps and --trace-after cannot take effect without --trace"},
      {{"throughput", "--lengths", "short"}, "--lengths: \"short\" is not fixed or geometric"},
      {{"throughput", "--shared-prefix", "-1"},
       "--shared-prefix: \"-1\" is not a number of 0 to 1000000"},
      {{"throughput", "--isa", "avx2"}, "unknown argument \"--isa\" of bench throughput"},
      {{"attention", "--tokens", "1"}, "unknown argument \"--tokens\" of bench attention"},
      {{"experts", "--context", "1"}, "unknown argument \"--context\" of bench experts"},
      {{"attention", "--context", "128,,512"},
       "--context: \"128,,512\" is not a list of numbers of 1 to 16000000 with \",\" between"},
      {{"attention", "--batch="},
       "--batch: \"\" is not a list of numbers of 1 to 65536 with \",\" between"},
      {{"attention", "--heads", "32"},
       "--heads: \"32\" is not 2 numbers of 1 to 1024 with \"/\" between"},
      {{"experts", "--shape", "4096x14336x2"},
       "--shape: \"4096x14336x2\" is not 2 numbers of 1 to 1000000 with \"x\" between"},
      {{"experts", "--tokens", "0"},
       "--tokens: \"0\" is not a list of numbers of 1 to 65536 with \",\" between"},
      {{"experts", "--memory", "1MiB"}, "--memory: \"1MiB\" is not a size of 1GiB to 1TiB"},
      {{"experts", "--memory", "much"}, "--memory: \"much\" is not a size of 1GiB to 1TiB"},
      {{"experts", "--threads", "0"}, "--threads: \"0\" is not a number of 1 to 1024"},
      {{"experts", "--beside-copy=yes"}, "--beside-copy takes no value"},
      {{"experts", "--isa"}, "--isa needs a value"},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(ParseBenchOptions(row.args).status().message(), row.error);
  }
}

}  // namespace
}  // namespace moelight
