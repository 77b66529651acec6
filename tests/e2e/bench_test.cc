// Goal: `moelightd bench`, as a user runs it, prints JSON that adds up.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/e2e/daemon_process.h"

namespace moelight {
namespace {

using nlohmann::json;

// The demo model on the CPU, with sizes that a small machine has.
std::vector<std::string> Command(std::vector<std::string> command) {
  for (const char* argument :
       {"--config", MOELIGHT_SOURCE_DIR "/config.yaml", "--set", "engine.device=cpu", "--set",
        "engine.host_memory=1GiB", "--set", "engine.max_running_sequences=4", "--set",
        "engine.max_queued_requests=2"}) {
    command.push_back(argument);
  }
  return command;
}

// The JSON object in what a command printed to stdout and stderr together.
json ParseOutput(const CommandResult& result) {
  const size_t begin = result.output.find('{');
  const size_t end = result.output.rfind('}');
  EXPECT_NE(begin, std::string::npos) << result.output;
  if (begin == std::string::npos) return {};
  json parsed = json::parse(result.output.substr(begin, end + 1 - begin), nullptr,
                            /*allow_exceptions=*/false);
  EXPECT_FALSE(parsed.is_discarded()) << result.output;
  return parsed;
}

TEST(BenchTest, ThroughputAddsUp) {
  const std::string trace_file =
      (std::filesystem::temp_directory_path() / absl::StrCat("moelight-trace-", getpid(), ".json"))
          .string();
  const CommandResult result =
      RunCommand(Command({"moelightd", "bench", "throughput", "--workload", "mtbench", "--requests",
                          "8", "--trace", trace_file, "--trace-steps", "2"}));
  ASSERT_EQ(result.exit_code, 0) << result.output;
  EXPECT_NE(result.output.find("mtbench: 8 of 8 requests"), std::string::npos) << result.output;
  const json run = ParseOutput(result);
  EXPECT_EQ(run["requests"], 8);
  EXPECT_EQ(run["succeeded"], 8);
  EXPECT_EQ(run["failed"], 0);
  EXPECT_EQ(run["generated_tokens"], 8 * 128);
  EXPECT_NEAR(run["prompt_tokens"].get<double>(), 8 * 77, 8 * 77 * 0.02);
  EXPECT_EQ(run["peak_sequences"], 4);
  const json& whole = run["whole_run"];
  EXPECT_EQ(whole["generated_tokens"], run["generated_tokens"]);
  EXPECT_EQ(whole["prompt_tokens"], run["prompt_tokens"]);
  EXPECT_GT(run["generated_tokens_per_s"], 0);
  EXPECT_LE(whole["step_seconds"].get<double>(), run["seconds"].get<double>());
  // Four at a time, 128 steps each.
  EXPECT_GE(whole["steps"], 256);
  EXPECT_GT(run["decode_steady"]["steps"], 0);
  EXPECT_EQ(run["decode_steady"]["prompt_tokens"], 0);
  EXPECT_EQ(run["decode_steady"]["sequences"], 4);
  for (const char* lane : {"gpu", "cpu", "h2d", "d2h"}) {
    const double busy_share = run["steady"]["lanes"][lane]["busy_share"];
    EXPECT_TRUE(busy_share >= 0 && busy_share <= 1.001) << lane << " " << busy_share;
  }
  EXPECT_TRUE(run["link"].is_null());
  EXPECT_GT(run["memory"]["host"]["weights"], 0);

  std::ifstream file(trace_file);
  const json trace = json::parse(file, nullptr, /*allow_exceptions=*/false);
  EXPECT_EQ(trace["otherData"]["num_steps"], 2);
  std::filesystem::remove(trace_file);
}

TEST(BenchTest, SteadyStepsEndTheRunEarly) {
  const CommandResult result =
      RunCommand(Command({"moelightd", "bench", "throughput", "--workload", "reasoning",
                          "--requests", "1000", "--layers", "2", "--steady-steps", "10"}));
  ASSERT_EQ(result.exit_code, 0) << result.output;
  const json run = ParseOutput(result);
  EXPECT_EQ(run["stopped_early"], true);
  EXPECT_EQ(run["failed"], 0);
  EXPECT_LT(run["generated_tokens"], 1000 * 50);
  EXPECT_GE(run["steady"]["steps"], 10);
  EXPECT_EQ(run["model"]["cut_to_layers"], 2);
}

TEST(BenchTest, RequestsLongerThanTheModelTakesAreRefused) {
  std::vector<std::string> command =
      Command({"moelightd", "bench", "throughput", "--workload", "long", "--requests", "1"});
  command.insert(command.end(), {"--set", "engine.max_model_len=1000"});
  const CommandResult result = RunCommand(command);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.output.find("requests of 1024 tokens, the model takes 1000"), std::string::npos)
      << result.output;
}

TEST(BenchTest, TheCpuHasNoLink) {
  const CommandResult result = RunCommand(Command({"moelightd", "bench", "link"}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.output.find("this backend has no link"), std::string::npos) << result.output;
}

TEST(BenchTest, AProbeThatCannotBeSaysWhy) {
  const CommandResult result =
      RunCommand(Command({"moelightd", "bench", "attention", "--kv", "fp4"}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.output.find("KV format \"fp4\" is unknown"), std::string::npos) << result.output;
}

TEST(BenchTest, WrongArgumentsAreAUsageError) {
  EXPECT_EQ(RunCommand({"moelightd", "bench", "speed"}).exit_code, 2);
  EXPECT_EQ(RunCommand(Command({"moelightd", "bench", "throughput", "--requests", "0"})).exit_code,
            2);
}

}  // namespace
}  // namespace moelight
