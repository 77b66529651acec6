// Goal: the product as a user has it: client binary, daemon binary, demo model.
#include <signal.h>

#include <fstream>
#include <map>
#include <string>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include "tests/e2e/daemon_process.h"

namespace moelight {
namespace {

using nlohmann::json;

std::vector<json> ReadLines(const std::string& path) {
  std::vector<json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(json::parse(line));
  return lines;
}

json ChatLine(const std::string& custom_id, const std::string& question) {
  return {{"custom_id", custom_id},
          {"method", "POST"},
          {"url", "/v1/chat/completions"},
          {"body",
           {{"model", "demo"},
            {"messages", json::array({{{"role", "user"}, {"content", question}}})},
            {"max_tokens", 160},
            {"temperature", 0}}}};
}

TEST(DemoModelTest, AnswersTheHeldOutTasks) {
  DaemonProcess daemon;
  daemon.Start();
  const std::vector<json> tasks =
      ReadLines(absl::StrCat(MOELIGHT_SOURCE_DIR, "/tests/data/demo/eval.jsonl"));
  ASSERT_EQ(tasks.size(), 400u);
  const std::string in = daemon.folder() + "/in.jsonl";
  const std::string out = daemon.folder() + "/out.jsonl";
  {
    std::ofstream file(in);
    for (size_t i = 0; i < tasks.size(); ++i) {
      file << ChatLine(absl::StrCat("row-", i), tasks[i]["user"]) << "\n";
    }
  }
  const CommandResult submit =
      RunCommand({"moelight", "--server", daemon.address(), "submit", in, "--wait", "-o", out});
  ASSERT_EQ(submit.exit_code, 0) << submit.output;

  std::map<std::string, std::string> answers;
  for (const json& line : ReadLines(out)) {
    const std::string custom_id = line["custom_id"];
    EXPECT_EQ(answers.count(custom_id), 0u) << custom_id << " is answered twice";
    EXPECT_EQ(line["response"]["status_code"], 200);
    answers[custom_id] = line["response"]["body"]["choices"][0]["message"]["content"];
  }
  ASSERT_EQ(answers.size(), tasks.size());
  int num_right = 0;
  for (size_t i = 0; i < tasks.size(); ++i) {
    num_right += answers[absl::StrCat("row-", i)] == tasks[i]["expected"];
  }
  RecordProperty("num_right", num_right);
  std::printf("%d of 400 answers are exactly right\n", num_right);
  EXPECT_GE(num_right, 392);  // 98 %
}

TEST(DemoModelTest, TermEndsTheDaemonCleanly) {
  DaemonProcess daemon;
  daemon.Start();
  const int status = daemon.Stop(SIGTERM);
  ASSERT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 0);
  daemon.Start();
}

TEST(DemoModelTest, ABadLineFailsAlone) {
  DaemonProcess daemon;
  daemon.Start();
  const std::string in = daemon.folder() + "/in.jsonl";
  const std::string out = daemon.folder() + "/out.jsonl";
  json too_hot = ChatLine("hot", "What is 1 plus 1?");
  too_hot["body"]["temperature"] = 9;
  {
    std::ofstream file(in);
    file << ChatLine("good", "What is 64 plus 27?") << "\nthis is not JSON\n" << too_hot << "\n";
  }
  const CommandResult submit =
      RunCommand({"moelight", "--server", daemon.address(), "submit", in, "--wait", "-o", out});
  EXPECT_EQ(submit.exit_code, 1) << submit.output;
  EXPECT_NE(submit.output.find("line 2"), std::string::npos) << submit.output;
  const std::vector<json> lines = ReadLines(out);
  ASSERT_EQ(lines.size(), 3u);
  int num_good = 0;
  for (const json& line : lines) {
    if (line["custom_id"] != "good") continue;
    ++num_good;
    EXPECT_EQ(line["response"]["body"]["choices"][0]["message"]["content"], "91");
  }
  EXPECT_EQ(num_good, 1);
}

}  // namespace
}  // namespace moelight
