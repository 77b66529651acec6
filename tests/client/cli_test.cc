// Goal: commands do what their help says, with the exit codes and hints that scripts and people
// rely on.
#include "client/cli.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>
#include <absl/time/clock.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "client/exit_code.h"
#include "tests/client/fake_server.h"

namespace moelight::client {
namespace {

namespace fs = std::filesystem;
using ::moelight::testing::FakeServer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::json;

struct Outcome {
  int code;
  std::string out;
  std::string err;
};

std::string Chat(const std::string& custom_id, const std::string& text = "hi") {
  return absl::StrFormat(R"({"custom_id":"%s","method":"POST","url":"/v1/chat/completions",)"
                         R"("body":{"messages":[{"role":"user","content":"%s"}]}})",
                         custom_id, text);
}
std::string Completion(const std::string& custom_id, const std::string& text = "hi") {
  return absl::StrFormat(
      R"({"custom_id":"%s","method":"POST","url":"/v1/completions","body":{"prompt":"%s"}})",
      custom_id, text);
}

class CliTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "cli_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  Outcome Run(const std::vector<std::string>& args, const std::string& input = "",
              std::stop_token stop = {}) {
    std::istringstream in(input);
    std::ostringstream out;
    std::ostringstream err;
    Environment environment{.in = in,
                            .out = out,
                            .err = err,
                            .err_is_terminal = terminal_,
                            .columns = 100,
                            .default_server = server_.address(),
                            .default_admin_server = server_.address(),
                            .stop = stop};
    const int code = Main(args, environment);
    return {code, out.str(), err.str()};
  }

  std::string File(const std::vector<std::string>& lines) {
    const fs::path path = folder_ / "in.jsonl";
    std::ofstream file(path);
    for (const std::string& line : lines) file << line << "\n";
    return path;
  }
  std::string Out() const { return folder_ / "out.jsonl"; }

  static std::map<std::string, Json> ByCustomId(const std::string& text) {
    std::map<std::string, Json> lines;
    for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
      Json json = Json::parse(line.begin(), line.end());
      const Json id = json["custom_id"];
      lines[id.is_null() ? "" : id.get<std::string>()] = json;
    }
    return lines;
  }
  std::map<std::string, Json> OutLines() const {
    std::ifstream file(Out());
    std::ostringstream text;
    text << file.rdbuf();
    return ByCustomId(text.str());
  }

  FakeServer server_;
  fs::path folder_;
  bool terminal_ = false;
};

// --- Arguments ---

TEST_F(CliTest, HelpAndVersion) {
  EXPECT_THAT(Run({"--version"}).out, StartsWith("moelight "));
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{"--help"}, {"-h"}, {"help"}}) {
    const Outcome outcome = Run(args);
    EXPECT_EQ(outcome.code, kDone);
    EXPECT_THAT(outcome.out, HasSubstr("submit"));
  }
  const Outcome bare = Run({});
  EXPECT_EQ(bare.code, kUsage);
  EXPECT_THAT(bare.err, HasSubstr("usage:"));
  for (const char* command :
       {"submit", "watch", "results", "cancel", "list", "generate", "info", "health"}) {
    const Outcome outcome = Run({command, "--help"});
    EXPECT_EQ(outcome.code, kDone);
    EXPECT_THAT(outcome.out, HasSubstr(absl::StrCat("usage: moelight ", command)));
  }
}

TEST_F(CliTest, UsageErrorsNameWhatIsWrong) {
  struct Case {
    std::vector<std::string> args;
    std::string message;
  };
  for (const Case& c : std::vector<Case>{
           {{"subbmit"}, "unknown command \"subbmit\""},
           {{"list", "--colour"}, "unknown option --colour"},
           {{"watch"}, "missing argument"},
           {{"watch", "a", "b"}, "unexpected argument \"b\""},
           {{"list", "--limit", "0"}, "--limit must be an integer from 1"},
           {{"list", "--state", "asleep"}, "--state asleep is not a state"},
           {{"--server", "nowhere", "list"}, "\"nowhere\" is not HOST:PORT"},
           {{"--timeout", "-1", "list"}, "--timeout must be a number"},
           {{"--tls-ca", "/no/such", "list"}, "cannot read --tls-ca /no/such"},
           {{"submit", "/no/such"}, "cannot read /no/such"},
           {{"submit", "/tmp"}, "cannot read /tmp"},
           {{"submit", "-", "-o", "x"}, "-o needs --wait"},
           {{"submit", "-", "--resume", "x"}, "--resume needs a file"},
           {{"submit", "-"}, "- has no requests"},
           {{"generate", "x", "--chat", "--text"}, "exclude each other"},
           {{"generate", "x", "--n", "2"}, "--n above 1 needs --json"},
           {{"generate", "x", "--temperature", "hot"}, "--temperature must be a number"}}) {
    const Outcome outcome = Run(c.args);
    EXPECT_EQ(outcome.code, kUsage) << c.message;
    EXPECT_THAT(outcome.err, HasSubstr(c.message));
    EXPECT_THAT(outcome.out, IsEmpty());
  }
}

// --- Errors ---

TEST_F(CliTest, AnUnreachableServerIsNamedWithAHint) {
  server_.Stop();
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{{"info"},
                                             {"list"},
                                             {"watch", "j"},
                                             {"results", "j"},
                                             {"cancel", "j"},
                                             {"generate", "x"},
                                             {"submit", File({Chat("a")})}}) {
    std::vector<std::string> args = {"--timeout", "0.1"};
    args.insert(args.end(), command.begin(), command.end());
    const Outcome outcome = Run(args);
    EXPECT_EQ(outcome.code, kUnreachable) << command[0];
    EXPECT_THAT(outcome.err, HasSubstr(absl::StrCat("cannot reach ", server_.address())));
    EXPECT_THAT(outcome.err, HasSubstr("Is moelightd running"));
    EXPECT_THAT(outcome.err, HasSubstr("moelight --server"));
  }
}

TEST_F(CliTest, CodesOfTheServersErrors) {
  struct Case {
    grpc::StatusCode code;
    int expected;
  };
  for (const Case& c : std::vector<Case>{{grpc::StatusCode::RESOURCE_EXHAUSTED, kRefused},
                                         {grpc::StatusCode::INVALID_ARGUMENT, kRefused},
                                         {grpc::StatusCode::PERMISSION_DENIED, kRefused},
                                         {grpc::StatusCode::NOT_FOUND, kNotFound},
                                         {grpc::StatusCode::DEADLINE_EXCEEDED, kUnreachable}}) {
    server_.FailNext("ListBatchJobs", grpc::Status(c.code, "said the server"));
    const Outcome outcome = Run({"list"});
    EXPECT_EQ(outcome.code, c.expected);
    EXPECT_THAT(outcome.err, HasSubstr("said the server"));
  }
}

TEST_F(CliTest, JobsThatAreNotThere) {
  for (const char* command : {"watch", "results", "cancel"}) {
    const Outcome outcome = Run({command, "job-none"});
    EXPECT_EQ(outcome.code, kNotFound);
    EXPECT_THAT(outcome.err, HasSubstr("`moelight list`"));
  }
}

TEST_F(CliTest, ErrorsAsJson) {
  const Outcome outcome = Run({"watch", "job-none", "--json"});
  EXPECT_EQ(outcome.code, kNotFound);
  const Json error = Json::parse(outcome.err)["error"];
  EXPECT_EQ(error["code"], "NOT_FOUND");
  EXPECT_EQ(error["exit_code"], 5);
  EXPECT_THAT(error["hint"].get<std::string>(), HasSubstr("moelight list"));
}

// --- submit ---

TEST_F(CliTest, SubmitPrintsTheJob) {
  const Outcome outcome =
      Run({"submit", File({Chat("a"), Chat("b")}), "--job-name", "night run", "--label", "team=x",
           "--max-tokens", "9", "--expire-after", "2d", "--client", "alice", "--priority", "-7"});
  EXPECT_EQ(outcome.code, kDone) << outcome.err;
  EXPECT_EQ(outcome.out, "job-1\n");
  const v1::BatchJob job = server_.job("job-1");
  EXPECT_EQ(job.display_name(), "night run");
  EXPECT_EQ(job.labels().at("team"), "x");
  EXPECT_EQ(job.labels().at("moelight.url"), "/v1/chat/completions");
  EXPECT_EQ(job.labels().at("moelight.model"), "fake");
  EXPECT_EQ(job.default_sampling().max_tokens(), 9);
  EXPECT_NEAR(job.expire_time().seconds(), absl::ToUnixSeconds(absl::Now()) + 2 * 86'400, 60);
  EXPECT_EQ(job.client(), "alice");
  EXPECT_EQ(job.priority(), -7);
  EXPECT_EQ(server_.rows("job-1").size(), 2);
  EXPECT_THAT(outcome.err, Not(HasSubstr("warning")));
}

TEST_F(CliTest, ADeadlineThatCannotBeKeptIsToldAtOnce) {
  const std::string file = File({Chat("a")});
  const Outcome outcome = Run({"submit", file, "--expire-after", "1h"});
  EXPECT_EQ(outcome.code, kDone) << outcome.err;
  EXPECT_EQ(outcome.out, "job-1\n");
  EXPECT_THAT(outcome.err, HasSubstr("warning: the job is expected to end at "));
  const Outcome json = Run({"submit", file, "--expire-after", "1h", "--json"});
  EXPECT_TRUE(Json::parse(json.out)["deadline_unreachable"]);
  EXPECT_EQ(Run({"submit", file, "--expire-after", "soon"}).code, kUsage);
  EXPECT_EQ(Run({"submit", file, "--priority", "101"}).code, kUsage);
}

TEST_F(CliTest, SubmitWaitWritesTheAnswers) {
  const Outcome outcome =
      Run({"submit", File({Chat("a", "one"), Completion("b", "two")}), "--wait", "-o", Out()});
  EXPECT_EQ(outcome.code, kDone) << outcome.err;
  EXPECT_EQ(outcome.out, "job-1\n");
  EXPECT_THAT(outcome.err, HasSubstr("job-1 SUCCEEDED: 2 of 2 rows answered"));
  auto lines = OutLines();
  ASSERT_EQ(lines.size(), 2);
  const Json chat = lines["a"]["response"]["body"];
  EXPECT_EQ(chat["object"], "chat.completion");
  EXPECT_EQ(chat["model"], "fake");
  EXPECT_EQ(chat["choices"][0]["message"]["content"], "ONE");
  const Json completion = lines["b"]["response"]["body"];
  EXPECT_EQ(completion["object"], "text_completion");
  EXPECT_EQ(completion["choices"][0]["text"], "TWO");
}

TEST_F(CliTest, BadLinesFailAlone) {
  const std::string long_row = Chat("long", std::string(3000, 'x'));
  const Outcome outcome = Run({"submit",
                               File({Chat("a"), "rubbish", "", Chat("a"), long_row, Chat("fail"),
                                     R"({"custom_id":"c"})", Chat("b")}),
                               "--wait", "-o", Out()});
  EXPECT_EQ(outcome.code, kRowsFailed);
  EXPECT_THAT(outcome.err, HasSubstr("line 2: not JSON"));
  EXPECT_THAT(outcome.err, HasSubstr("line 4: custom_id \"a\" occurred before"));
  EXPECT_THAT(outcome.err, HasSubstr("limit 2000 (server.limits.row_bytes)"));
  EXPECT_THAT(outcome.err, HasSubstr("line 7: method is missing"));
  EXPECT_EQ(server_.rows("job-1").size(), 3);
  auto lines = OutLines();
  EXPECT_EQ(lines["b"]["error"], nullptr);
  EXPECT_EQ(lines[""]["error"]["code"], "invalid_json");
  EXPECT_EQ(lines["long"]["error"]["code"], "line_too_long");
  EXPECT_EQ(lines["c"]["error"]["line"], 7);
  EXPECT_EQ(lines["fail"]["error"]["message"], "told to fail");
  std::ifstream file(Out());
  EXPECT_EQ(std::count(std::istreambuf_iterator<char>(file), {}, '\n'), 7);
}

TEST_F(CliTest, OnlyBadLinesMakeNoJob) {
  const Outcome outcome = Run({"submit", File({"rubbish"}), "--wait", "-o", Out()});
  EXPECT_EQ(outcome.code, kRowsFailed);
  EXPECT_EQ(server_.num_calls("CreateBatchJob"), 0);
  EXPECT_EQ(OutLines().size(), 1);
}

TEST_F(CliTest, SubmitFromStandardInputToStandardOutput) {
  const Outcome outcome = Run({"submit", "-", "--wait", "-o", "-"}, Chat("a") + "\n" + Chat("b"));
  EXPECT_EQ(outcome.code, kDone) << outcome.err;
  EXPECT_EQ(ByCustomId(outcome.out).size(), 2);
}

TEST_F(CliTest, SubmitAsJson) {
  const Outcome outcome = Run({"submit", File({Chat("a"), "rubbish"}), "--wait", "--json"});
  EXPECT_EQ(outcome.code, kRowsFailed);
  const Json job = Json::parse(outcome.out);
  EXPECT_EQ(job["state"], "SUCCEEDED");
  EXPECT_EQ(job["num_bad_lines"], 1);
  EXPECT_EQ(Json::parse(outcome.err)["error"]["line"], 2);
}

TEST_F(CliTest, SubmitWithAFailedRow) {
  EXPECT_EQ(Run({"submit", File({Chat("a"), Chat("fail")}), "--wait"}).code, kRowsFailed);
}

TEST_F(CliTest, SubmitSurvivesBrokenStreams) {
  server_.BreakAppendAfter(3);
  server_.BreakResultsAfter(1, /*politely=*/false);
  server_.FailNext("WatchBatchJob", grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone"));
  std::vector<std::string> lines;
  for (int i = 0; i < 20; ++i) lines.push_back(Chat(absl::StrCat("row-", i)));
  const Outcome outcome = Run({"submit", File(lines), "--wait", "-o", Out()});
  EXPECT_EQ(outcome.code, kDone) << outcome.err;
  EXPECT_EQ(server_.num_repeated_rows(), 0);
  EXPECT_EQ(OutLines().size(), 20);
}

TEST_F(CliTest, ASubmissionThatBrokeOffCanBeResumed) {
  const std::string file = File({Chat("a"), "rubbish", Chat("b"), Chat("c")});
  server_.FailNext("SealBatchJob", grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full"));
  const Outcome broken = Run({"submit", file});
  EXPECT_EQ(broken.code, kRefused);
  EXPECT_THAT(broken.err, HasSubstr(absl::StrCat("`moelight submit ", file, " --resume job-1`")));
  EXPECT_EQ(Run({"submit", file, "--resume", "job-1"}).code, kRowsFailed);
  EXPECT_EQ(server_.rows("job-1").size(), 3);
  EXPECT_EQ(server_.num_repeated_rows(), 0);
  const Outcome late = Run({"submit", file, "--resume", "job-1"});
  EXPECT_EQ(late.code, kRefused);
  EXPECT_THAT(late.err, HasSubstr("takes no more rows"));
}

TEST_F(CliTest, CtrlCWhileWaitingLeavesTheJob) {
  for (const bool with_output : {false, true}) {
    server_.HoldJobs(1);
    std::stop_source source;
    const int watches = server_.num_calls("WatchBatchJob");
    std::jthread ctrl_c([&]() {
      while (server_.num_calls("WatchBatchJob") == watches) absl::SleepFor(absl::Milliseconds(5));
      source.request_stop();
    });
    std::vector<std::string> args = {"submit", File({Chat("a"), Chat("b")}), "--wait"};
    if (with_output) args.insert(args.end(), {"-o", Out()});
    const Outcome outcome = Run(args, "", source.get_token());
    const std::string job_id = with_output ? "job-2" : "job-1";
    EXPECT_EQ(outcome.code, kInterrupted);
    EXPECT_THAT(outcome.err, HasSubstr(absl::StrCat("`moelight watch ", job_id, "`")));
    EXPECT_THAT(outcome.err, HasSubstr(absl::StrCat("`moelight results ", job_id, " --follow -o ",
                                                    with_output ? Out() : "OUT")));
    EXPECT_FALSE(fs::exists(Out()));
    EXPECT_FALSE(fs::exists(Out() + ".partial"));
    EXPECT_EQ(server_.job(job_id).state(), v1::BatchJob::STATE_RUNNING);
    server_.ReleaseJobs();
  }
}

// --- results ---

TEST_F(CliTest, ResultsToStandardOutputAndToAFile) {
  ASSERT_EQ(Run({"submit", File({Completion("a"), Completion("fail"), Completion("c")})}).code,
            kDone);
  const Outcome outcome = Run({"results", "job-1"});
  EXPECT_EQ(outcome.code, kRowsFailed);
  auto lines = ByCustomId(outcome.out);
  EXPECT_EQ(lines["a"]["response"]["body"]["object"], "text_completion");
  EXPECT_EQ(lines["fail"]["response"], nullptr);

  const Outcome to_file = Run({"results", "job-1", "-o", Out(), "--json", "--cursor", "2"});
  EXPECT_EQ(to_file.code, kDone);
  const Json summary = Json::parse(to_file.out);
  EXPECT_EQ(summary["num_results"], 1);
  EXPECT_EQ(summary["next_cursor"], 3);
  EXPECT_EQ(OutLines().size(), 1);
}

TEST_F(CliTest, ResultsOfMixedJobsAndByUrl) {
  ASSERT_EQ(Run({"submit", File({Chat("a"), Completion("b")})}).code, kDone);
  auto lines = ByCustomId(Run({"results", "job-1"}).out);
  EXPECT_EQ(lines["b"]["response"]["body"]["choices"][0]["text"], "HI");
  EXPECT_EQ(lines["b"]["response"]["body"]["choices"][0]["message"]["content"], "HI");
  lines = ByCustomId(Run({"results", "job-1", "--url", "/v1/completions"}).out);
  EXPECT_FALSE(lines["b"]["response"]["body"]["choices"][0].contains("message"));
  EXPECT_EQ(Run({"results", "job-1", "--url", "/v1/x"}).code, kUsage);
}

TEST_F(CliTest, ResultsOfARunningJob) {
  server_.HoldJobs(1);
  ASSERT_EQ(Run({"submit", File({Chat("a"), Chat("b")})}).code, kDone);
  const Outcome so_far = Run({"results", "job-1"});
  EXPECT_EQ(so_far.code, kDone);
  EXPECT_EQ(ByCustomId(so_far.out).size(), 1);
  EXPECT_THAT(so_far.err, HasSubstr("`moelight results job-1 --cursor 1`"));
  std::jthread release([this]() {
    while (server_.num_calls("ReadBatchResults") < 2) absl::SleepFor(absl::Milliseconds(5));
    server_.ReleaseJobs();
  });
  const Outcome all = Run({"results", "job-1", "--follow"});
  EXPECT_EQ(ByCustomId(all.out).size(), 2);
  EXPECT_THAT(all.err, IsEmpty());
}

TEST_F(CliTest, AFileThatCannotBeWrittenIsALocalError) {
  ASSERT_EQ(Run({"submit", File({Chat("a")})}).code, kDone);
  const Outcome outcome = Run({"results", "job-1", "-o", folder_ / "no" / "out"});
  EXPECT_EQ(outcome.code, kUsage);
  EXPECT_THAT(outcome.err, HasSubstr("No such file or directory"));
  EXPECT_EQ(Run({"results", "job-1", "-o", "/dev/full"}).code, kUsage);
}

// --- The other commands ---

TEST_F(CliTest, WatchInEveryForm) {
  ASSERT_EQ(Run({"submit", File({Chat("a"), Chat("fail")})}).code, kDone);
  const Outcome plain = Run({"watch", "job-1"});
  EXPECT_EQ(plain.code, kRowsFailed);
  EXPECT_THAT(plain.err, HasSubstr("job-1 SUCCEEDED: 2/2 rows 100%, 1 failed\n"));
  EXPECT_THAT(plain.out, HasSubstr("1 of 2 rows answered, 1 failed"));
  terminal_ = true;
  EXPECT_THAT(Run({"watch", "job-1"}).err, HasSubstr("\rjob-1 SUCCEEDED ["));
  const Outcome json = Run({"watch", "job-1", "--json"});
  EXPECT_EQ(Json::parse(json.out)["num_failed"], 1);
  EXPECT_THAT(json.err, IsEmpty());
}

TEST_F(CliTest, ListPagesThroughAllJobs) {
  for (int i = 0; i < 5; ++i) ASSERT_EQ(Run({"submit", File({Chat("a")})}).code, kDone);
  const Outcome table = Run({"list"});
  EXPECT_THAT(table.out, StartsWith("JOB    STATE      ROWS"));
  EXPECT_EQ(std::count(table.out.begin(), table.out.end(), '\n'), 6);
  const Outcome limited = Run({"list", "--limit", "2"});
  EXPECT_THAT(limited.err, HasSubstr("more jobs"));
  const Outcome json = Run({"list", "--json"});
  const std::vector<std::string> lines = absl::StrSplit(json.out, '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), 5);
  EXPECT_EQ(Json::parse(lines[0])["job_id"], "job-1");
}

TEST_F(CliTest, Cancel) {
  server_.HoldJobs(0);
  ASSERT_EQ(Run({"submit", File({Chat("a")})}).code, kDone);
  EXPECT_EQ(Run({"cancel", "job-1"}).out, "job-1 CANCELLED\n");
  EXPECT_EQ(Json::parse(Run({"cancel", "job-1", "--json"}).out)["state"], "CANCELLED");
}

TEST_F(CliTest, Generate) {
  EXPECT_EQ(Run({"generate", "abc", "--text", "--max-tokens", "4"}).out, "ABC\n");
  EXPECT_EQ(Run({"generate", "abc"}).out, "ABC\n");
  EXPECT_EQ(Run({"generate", "-", "--system", "s"}, "from stdin").out, "FROM STDIN\n");
  const Outcome json = Run({"generate", "abc", "--json"});
  EXPECT_EQ(Json::parse(json.out)["choices"][0]["text"], "ABC");
  server_.FailNext("GenerateEnd", grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "too hot"));
  const Outcome refused = Run({"generate", "abc"});
  EXPECT_EQ(refused.code, kRefused);
  EXPECT_EQ(refused.out, "ABC\n");
  EXPECT_THAT(refused.err, HasSubstr("too hot"));
}

TEST_F(CliTest, Info) {
  const Outcome outcome = Run({"info"});
  EXPECT_EQ(outcome.code, kDone);
  EXPECT_THAT(outcome.out, HasSubstr("moelightd 9.9.9"));
  EXPECT_THAT(outcome.out, HasSubstr("server.limits.row_bytes  2,000"));
  EXPECT_EQ(Json::parse(Run({"info", "--json"}).out)["limits"]["server.limits.row_bytes"], 2000);
}

}  // namespace
}  // namespace moelight::client
