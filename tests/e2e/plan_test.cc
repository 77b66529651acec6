// Goal: `moelightd plan`, as a user runs it, tells what would run, for this machine and for one
// that is only described, as text and as JSON that adds up; every mistake has its exit code and
// reason.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/e2e/daemon_process.h"

namespace moelight {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const char kT4[] = MOELIGHT_SOURCE_DIR "/deploy/hardware/t4.yaml";

CommandResult Plan(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {"moelightd", "plan", "--config",
                                      MOELIGHT_SOURCE_DIR "/config.yaml"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return RunCommand(command);
}

// The demo model on the CPU, with sizes that a small machine has.
CommandResult PlanDemo(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"--set", "engine.device=cpu",
                                        "--set", "engine.host_memory=1GiB",
                                        "--set", "engine.max_running_sequences=4"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return Plan(arguments);
}

// Mixtral on a T4, which is nowhere near.
CommandResult PlanMixtral(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {
      "--hardware", kT4,      "--model", MOELIGHT_SOURCE_DIR "/tests/data/configs/mixtral-8x7b",
      "--workload", "mtbench"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return Plan(arguments);
}

// All of the output: whoever pipes it into a parser must find nothing else.
json Parse(const CommandResult& result) {
  json parsed = json::parse(result.output, nullptr, /*allow_exceptions=*/false);
  EXPECT_FALSE(parsed.is_discarded()) << result.output;
  return parsed;
}

// 64-bit numbers are strings in protobuf's JSON.
int64_t Int64(const json& value) { return std::stoll(value.get<std::string>()); }

class TempFile {
 public:
  explicit TempFile(const std::string& name)
      : path_((std::filesystem::temp_directory_path() /
               absl::StrCat("moelight-", getpid(), "-", name))
                  .string()) {}
  ~TempFile() { std::filesystem::remove(path_); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;

  const std::string& path() const { return path_; }
  void Write(const std::string& text) const { std::ofstream(path_) << text; }
  std::string Read() const {
    std::stringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }

 private:
  const std::string path_;
};

TEST(PlanTest, AnUnknownInstructionSetIsRefusedWithTheList) {
  const CommandResult result = PlanDemo({"--set", "engine.cpu_isa=sse9"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.output, HasSubstr("engine.cpu_isa"));
  EXPECT_THAT(result.output, HasSubstr("is unknown; there are avx2"));
}

TEST(PlanTest, PrintsModelAndMemory) {
  const CommandResult result = PlanDemo({"--json"});
  ASSERT_EQ(result.exit_code, 0) << result.output;
  const json plan = Parse(result);
  EXPECT_EQ(plan["model"]["architecture"], "MixtralForCausalLM");
  EXPECT_EQ(plan["model"]["has_chat_template"], true);
  EXPECT_THAT(plan["backend"].get<std::string>(), HasSubstr("cpu"));
  EXPECT_EQ(plan["plan"]["max_running_sequences"], 4);
  int64_t host_bytes = 0;
  for (const json& use : plan["plan"]["memory"]) {
    if (use["tier"] == "host") host_bytes += Int64(use["bytes"]);
  }
  EXPECT_GT(host_bytes, 0);
  EXPECT_LE(host_bytes, 1 << 30);
  EXPECT_FALSE(plan.contains("simulated"));
}

TEST(PlanTest, WithoutAGpuNothingIsProbedAndNothingPredicted) {
  EXPECT_FALSE(Parse(PlanDemo({"--json"}))["plan"].contains("prediction"));
  const CommandResult text = PlanDemo({});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.output, StartsWith("model "));
  EXPECT_THAT(text.output, HasSubstr("nothing is predicted: no profile of this hardware is known"));
}

TEST(PlanTest, TheProfileOfTheConfigurationIsUsed) {
  const json plan =
      Parse(PlanDemo({"--json", "--set", absl::StrCat("engine.hardware_profile=", kT4)}));
  const json& prediction = plan["plan"]["prediction"];
  EXPECT_THAT(prediction["hardware"].get<std::string>(), StartsWith("1x T4"));
  // engine.device is cpu: the GPU of the profile takes no part.
  for (const json& alternative : prediction["alternatives"]) {
    EXPECT_THAT(alternative["what"].get<std::string>(), Not(HasSubstr("GPU")));
    EXPECT_THAT(alternative["what"].get<std::string>(), Not(HasSubstr("link")));
  }
  EXPECT_LE(prediction["tokens_per_s"], prediction["bound_tokens_per_s"]);
}

TEST(PlanTest, AMachineThatIsOnlyDescribed) {
  const TempFile svg("roofline.svg");
  const CommandResult result = PlanMixtral({"--json", "--simulate", "200", "--svg", svg.path()});
  ASSERT_EQ(result.exit_code, 0) << result.output;
  const json all = Parse(result);
  EXPECT_EQ(all["model"]["name"], "mixtral-8x7b");
  EXPECT_THAT(all["backend"].get<std::string>(), StartsWith("simulated (NVIDIA T4"));

  const json& prediction = all["plan"]["prediction"];
  EXPECT_THAT(prediction["hardware"].get<std::string>(), StartsWith("1x T4"));
  EXPECT_EQ(prediction["mean_prompt_tokens"], 77);
  EXPECT_EQ(prediction["max_prompt_tokens"], 418);
  EXPECT_EQ(prediction["num_output_tokens"], 128);
  EXPECT_GT(prediction["tokens_per_s"], 0);
  EXPECT_LE(prediction["tokens_per_s"], prediction["bound_tokens_per_s"]);
  EXPECT_LE(prediction["bound_us"], prediction["step_us"]);
  double longest_us = 0;
  ASSERT_EQ(prediction["lanes"].size(), 4u);
  for (const json& lane : prediction["lanes"]) {
    longest_us = std::max(longest_us, lane["us"].get<double>());
  }
  EXPECT_LE(longest_us, prediction["step_us"].get<double>() * 1.001);
  EXPECT_FALSE(prediction["alternatives"].empty());
  int64_t tensor_bytes = 0;
  for (const json& group : prediction["tensors"]) tensor_bytes += Int64(group["bytes"]);
  int64_t memory_bytes = 0;
  for (const json& use : all["plan"]["memory"]) memory_bytes += Int64(use["bytes"]);
  EXPECT_EQ(tensor_bytes, memory_bytes);

  const json& run = all["simulated"];
  EXPECT_EQ(run["generated_tokens"], 200 * 128);
  EXPECT_NEAR(run["prompt_tokens"].get<double>(), 200 * 77, 200);
  EXPECT_EQ(run["peak_sequences"], 200);
  EXPECT_GE(run["steps"], 128);
  EXPECT_DOUBLE_EQ(run["generated_tokens_per_s"].get<double>(),
                   200 * 128 / run["seconds"].get<double>());

  const std::string picture = svg.Read();
  EXPECT_TRUE(absl::StartsWith(picture, "<?xml")) << picture.substr(0, 80);
  EXPECT_TRUE(absl::EndsWith(picture, "</svg>\n")) << picture;
  EXPECT_EQ(std::count(picture.begin(), picture.end(), '<'),
            std::count(picture.begin(), picture.end(), '>'));
  EXPECT_THAT(picture, HasSubstr(">mixtral-8x7b on 1x T4"));
  EXPECT_THAT(picture, HasSubstr("attention on the host"));
}

TEST(PlanTest, TheTableHasEverySection) {
  const CommandResult result = PlanMixtral({"--simulate", "10"});
  ASSERT_EQ(result.exit_code, 0) << result.output;
  for (const char* section :
       {"model    mixtral-8x7b (MixtralForCausalLM), 46.7 billion parameters, 12.9 active\n",
        "\npolicy\n", "\nwhat lies where\n", "\nmemory\n", "\na decode step of ",
        "\nthroughput with prompts of 77 tokens (at most 418) and answers of 128\n",
        "\nwhat else would bring\n", "\nsimulated: "}) {
    EXPECT_THAT(result.output, HasSubstr(section));
  }
}

TEST(PlanTest, SettingsThatAreGivenAreKept) {
  const json plan = Parse(PlanMixtral({"--json", "--set", "engine.schedule=flexgen", "--set",
                                       "engine.max_running_sequences=504", "--set",
                                       "engine.num_micro_batches=14"}))["plan"];
  EXPECT_EQ(plan["schedule"], "flexgen");
  EXPECT_EQ(plan["max_running_sequences"], 504);
  EXPECT_EQ(plan["num_micro_batches"], 14);
  EXPECT_EQ(plan["prediction"]["num_sequences"], 504);
}

TEST(PlanTest, WrongArgumentsAreAUsageError) {
  const std::pair<std::vector<std::string>, const char*> rows[] = {
      {{"--hardwar", "x"}, "unknown argument \"--hardwar\" of plan; see moelightd plan --help"},
      {{"-o", "x"}, "unknown argument \"-o\" of plan"},
      {{"--svg"}, "--svg needs a value"},
      {{"--simulate", "0"}, "--simulate: \"0\" is not a number of 1 to 1000000"},
      {{"--json=yes"}, "--json takes no value"},
      {{"--workload", "chat"}, "workload \"chat\" is not known; there are: mtbench, reasoning"},
      {{"--model", "nowhere"}, "nowhere\" is not a folder"},
      {{"--set", "engine.objective=fame"},
       "engine.objective: \"fame\" is not one of throughput, energy"},
  };
  for (const auto& [arguments, reason] : rows) {
    const CommandResult result = Plan(arguments);
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_THAT(result.output, HasSubstr(reason));
  }
  const CommandResult help = RunCommand({"moelightd", "plan", "--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.output, HasSubstr("--simulate N"));
}

TEST(PlanTest, WhatCannotBePlannedHasItsReason) {
  const TempFile bad("bad.yaml");
  bad.Write("name: x\nhost: 3\n");
  const std::pair<std::vector<std::string>, std::string> rows[] = {
      {{"--hardware", "/nowhere/t4.yaml"}, "/nowhere/t4.yaml: cannot be opened"},
      {{"--hardware", bad.path()},
       absl::StrCat(bad.path(), ":2: host: not a mapping of keys to values")},
      {{"--svg", "/tmp/x.svg"}, "--svg: there is no profile of this hardware to draw"},
      {{"--simulate", "3"}, "a simulated machine needs a hardware profile"},
  };
  for (const auto& [arguments, reason] : rows) {
    const CommandResult result = PlanDemo(arguments);
    EXPECT_EQ(result.exit_code, 1) << result.output;
    EXPECT_THAT(result.output, HasSubstr(reason));
  }
  const CommandResult unwritable = PlanMixtral({"--svg", "/nowhere/roofline.svg"});
  EXPECT_EQ(unwritable.exit_code, 1);
  EXPECT_THAT(unwritable.output, HasSubstr("/nowhere/roofline.svg: cannot be written"));
}

}  // namespace
}  // namespace moelight
