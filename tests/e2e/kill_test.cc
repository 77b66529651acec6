// Goal: kill -9 at random moments loses nothing. Every row of a job has exactly one result, with
// the text of an undisturbed run, and what a client has seen once stays as it was.
//
// MOELIGHT_TEST_KILLS sets how often the daemon is killed; the nightly run kills more often.
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/e2e/daemon_process.h"

namespace moelight {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
constexpr int kNumRows = 200;  // the same time at a tenth of the speed
#else
constexpr bool kSanitized = false;
constexpr int kNumRows = 2000;
#endif

int NumKills() {
  const char* text = std::getenv("MOELIGHT_TEST_KILLS");
  return text != nullptr ? std::atoi(text) : 6;
}

std::vector<std::string> Questions() {
  std::vector<std::string> questions;
  std::ifstream file(absl::StrCat(MOELIGHT_SOURCE_DIR, "/tests/data/demo/eval.jsonl"));
  for (std::string line; std::getline(file, line);) {
    questions.push_back(nlohmann::json::parse(line)["user"]);
  }
  return questions;
}

// Everything of a result that must be the same in every run.
struct Answer {
  std::string text;
  int completion_tokens = 0;
  bool operator==(const Answer&) const = default;
};

// Runs the whole job and returns the answers by row; fails the test on a row without exactly one.
void RunJob(client::Client& client, std::map<int64_t, Answer>* answers, std::string* job_id) {
  const std::vector<std::string> questions = Questions();
  v1::BatchJob job;
  job.mutable_default_sampling()->set_temperature(0);
  // Longer than the answers are: the job shall last.
  job.mutable_default_sampling()->set_max_tokens(40);
  job.mutable_default_sampling()->set_ignore_eos(true);
  const auto created = client.CreateJob(job);
  ASSERT_TRUE(created.ok()) << created.status();
  *job_id = created->job_id();
  int next = 0;
  const auto appended =
      client.AppendRows(*job_id, [&](v1::BatchRequest& row) -> absl::StatusOr<bool> {
        if (next == kNumRows) return false;
        row.set_custom_id(absl::StrCat("row-", next));
        v1::ChatMessage* message = row.mutable_prompt()->mutable_chat()->add_messages();
        message->set_role("user");
        message->set_content(questions[next % questions.size()]);
        ++next;
        return true;
      });
  ASSERT_TRUE(appended.ok()) << appended.status();
  ASSERT_EQ(appended->num_rows, kNumRows);
  const auto sealed = client.Seal(*job_id, kNumRows);
  ASSERT_TRUE(sealed.ok()) << sealed.status();
  const auto cursor = client.ReadResults(
      *job_id, {.cursor = 0, .follow = true},
      [answers](const v1::ReadBatchResultsResponse& response) {
        for (const v1::BatchResult& result : response.results()) {
          EXPECT_FALSE(result.has_error()) << result.ShortDebugString();
          EXPECT_EQ(result.custom_id(), absl::StrCat("row-", result.row()));
          const Answer answer{result.choices_size() > 0 ? result.choices(0).text() : "",
                              result.usage().completion_tokens()};
          EXPECT_TRUE(answers->emplace(result.row(), answer).second)
              << "row " << result.row() << " has two results";
        }
        return absl::OkStatus();
      });
  ASSERT_TRUE(cursor.ok()) << cursor.status();
  EXPECT_EQ(answers->size(), static_cast<size_t>(kNumRows));
}

TEST(KillTest, EveryRowHasOneResultAndTheSameText) {
  // One row at a time makes the job long enough to be hit often.
  DaemonProcess daemon({"engine.max_running_sequences=1"});
  daemon.Start();
  std::map<int64_t, Answer> undisturbed;
  std::string job_id;
  RunJob(*daemon.Connect(), &undisturbed, &job_id);
  ASSERT_FALSE(HasFatalFailure());

  std::atomic<bool> job_done = false;
  std::vector<double> ready_seconds;
  int num_kills_in_job = 0;
  std::thread killer([&]() {
    std::mt19937 random(2026);
    std::uniform_int_distribution<int> delay_ms(0, 150);
    for (int i = 0; i < NumKills(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms(random)));
      daemon.Stop(SIGKILL);
      if (!job_done) ++num_kills_in_job;
      ready_seconds.push_back(daemon.Start());
    }
  });
  std::map<int64_t, Answer> disturbed;
  auto client = daemon.Connect();
  RunJob(*client, &disturbed, &job_id);
  job_done = true;
  killer.join();
  EXPECT_EQ(disturbed, undisturbed);

  // What was seen while the daemon was being killed is what the store holds.
  std::map<int64_t, Answer> stored;
  const auto cursor =
      client->ReadResults(job_id, {}, [&stored](const v1::ReadBatchResultsResponse& response) {
        for (const v1::BatchResult& result : response.results()) {
          stored[result.row()] = {result.choices(0).text(), result.usage().completion_tokens()};
        }
        return absl::OkStatus();
      });
  ASSERT_TRUE(cursor.ok()) << cursor.status();
  EXPECT_EQ(*cursor, kNumRows);
  EXPECT_EQ(stored, undisturbed);
  const auto job = client->Get(job_id);
  ASSERT_TRUE(job.ok());
  EXPECT_EQ(job->state(), v1::BatchJob::STATE_SUCCEEDED);
  EXPECT_EQ(job->num_succeeded(), kNumRows);

  EXPECT_GT(num_kills_in_job, 0);
  std::sort(ready_seconds.begin(), ready_seconds.end());
  const double median_s = ready_seconds[ready_seconds.size() / 2];
  std::printf("%d kills, %d of them during the job; restarts %.3f s, the slowest %.3f s\n",
              NumKills(), num_kills_in_job, median_s, ready_seconds.back());
  // Ready within a second, the start of the process included; a neighbour of this test on a busy
  // machine may hold up one of them.
  EXPECT_TRUE(kSanitized || median_s <= 1.0);
}

// A crash of the daemon itself, unlike a kill from outside, counts against the rows that were
// running.
TEST(KillTest, ARowInTheBatchAtThreeCrashesIsQuarantined) {
  DaemonProcess daemon;
  daemon.Start();
  auto client = daemon.Connect();
  const auto job = client->CreateJob({});
  ASSERT_TRUE(job.ok()) << job.status();
  bool given = false;
  const auto appended =
      client->AppendRows(job->job_id(), [&given](v1::BatchRequest& row) -> absl::StatusOr<bool> {
        if (given) return false;
        given = true;
        row.mutable_prompt()->set_text("Tell me a long story.");
        row.mutable_sampling()->set_n(16);
        row.mutable_sampling()->set_max_tokens(1900);
        row.mutable_sampling()->set_ignore_eos(true);
        return true;
      });
  ASSERT_TRUE(appended.ok()) << appended.status();
  ASSERT_TRUE(client->Seal(job->job_id(), 1).ok());
  // Three crashes are enough if the row is taken up before each; a busy machine needs some more.
  for (int crash = 0; crash < 30; ++crash) {
    // A connection of its own: the client's would wait before it tries the restarted daemon again.
    const auto now = daemon.Connect()->Get(job->job_id());
    ASSERT_TRUE(now.ok()) << now.status();
    if (client::HasEnded(now->state())) break;
    // Mostly long enough for the row to be taken up, far too short for it to end.
    std::this_thread::sleep_for(std::chrono::milliseconds(kSanitized ? 2000 : 300));
    daemon.Stop(SIGSEGV);
    daemon.Start();
  }
  const auto ended = client->Watch(job->job_id(), [](const v1::BatchJob&) {});
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->state(), v1::BatchJob::STATE_SUCCEEDED);
  EXPECT_EQ(ended->num_failed(), 1);
  const auto cursor =
      client->ReadResults(job->job_id(), {}, [](const v1::ReadBatchResultsResponse& response) {
        EXPECT_NE(response.results(0).error().message().find("3 crashes"), std::string::npos)
            << response.results(0).error().message();
        return absl::OkStatus();
      });
  EXPECT_TRUE(cursor.ok()) << cursor.status();
}

}  // namespace
}  // namespace moelight
