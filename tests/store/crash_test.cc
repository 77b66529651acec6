// Goal: kill -9 at any moment loses nothing acknowledged and repeats no record; the crash marker is
// left by crashes and by nothing else.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "engine/base/check.h"
#include "server/crash_marker.h"
#include "tests/store/store_test_util.h"

namespace moelight {
namespace {

// A store_victim whose output can be read.
class Victim {
 public:
  Victim(const std::string& what, const std::string& folder) {
    int ends[2];
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    const std::string path = absl::StrCat(MOELIGHT_BIN_DIR, "/store_victim");
    std::string what_copy = what;
    std::string folder_copy = folder;
    std::string name = path;
    char* const arguments[] = {name.data(), what_copy.data(), folder_copy.data(), nullptr};
    CHECK_EQ(posix_spawn(&pid_, path.c_str(), &actions, nullptr, arguments, environ), 0) << path;
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    output_ = ends[0];
  }
  ~Victim() { close(output_); }

  // Until it has said this much or ended.
  void WaitForLines(int64_t num_lines) {
    while (std::count(text_.begin(), text_.end(), '\n') < num_lines && ReadMore()) continue;
  }
  void Kill(int signal_number) { kill(pid_, signal_number); }
  // What it said until its end; `status` is waitpid's.
  std::vector<std::string> Collect(int* status) {
    while (ReadMore()) continue;
    CHECK_EQ(waitpid(pid_, status, 0), pid_);
    return absl::StrSplit(text_, '\n', absl::SkipEmpty());
  }

 private:
  bool ReadMore() {
    char buffer[4096];
    const ssize_t size = read(output_, buffer, sizeof(buffer));
    if (size > 0) text_.append(buffer, static_cast<size_t>(size));
    return size > 0;
  }

  std::string text_;
  pid_t pid_ = 0;
  int output_ = -1;
};

TEST(KillTest, NothingAcknowledgedIsLostAndNothingRecordedTwice) {
  const TempFolder folder;
  std::mt19937 random(17);  // the moments differ with the machine all the same
  int64_t acknowledged_rows = 0;
  std::string job_id;
  std::set<int64_t> results;
  bool done = false;
  int kills = 0;
  for (; !done && kills < 200; ++kills) {
    Victim victim("work", folder.path());
    // Some die while they open the store; the others are let do 30 steps on average, so that the
    // work gets done however slow the disk is.
    if (kills % 5 != 0) victim.WaitForLines(static_cast<int64_t>(random() % 60));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 10'000));
    victim.Kill(SIGKILL);
    int status = 0;
    for (const std::string& line : victim.Collect(&status)) {
      const std::pair<std::string, std::string> words = absl::StrSplit(line, ' ');
      int64_t number = 0;
      if (words.first == "seal") job_id = words.second;
      if (!absl::SimpleAtoi(words.second, &number)) continue;
      if (words.first == "rows") acknowledged_rows = number;
      if (words.first == "result") {
        EXPECT_TRUE(results.insert(number).second) << "row " << number << " ran after its result";
      }
    }
    done = WIFEXITED(status);
    if (done) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
    }

    const std::clock_t begin = std::clock();  // a busy disk is no fault
    const auto store = OpenStore(folder.path());
    EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 1);
    const auto jobs = store->store().List({});
    if (jobs->jobs_size() == 0) continue;
    const v1::BatchJob& job = jobs->jobs(0);
    EXPECT_GE(job.num_rows(), acknowledged_rows);
    if (!job_id.empty()) {
      EXPECT_EQ(job.job_id(), job_id);
    }
    std::set<int64_t> stored;
    for (const v1::BatchResult& result : store->ReadAll(job.job_id())) {
      EXPECT_TRUE(stored.insert(result.row()).second) << "second record of row " << result.row();
      EXPECT_EQ(result.SerializeAsString(), MakeResult(result.row()).SerializeAsString());
    }
    for (const int64_t row : results) EXPECT_TRUE(stored.contains(row)) << "lost row " << row;
    EXPECT_EQ(job.num_succeeded(), static_cast<int64_t>(stored.size()));
    EXPECT_EQ(job.num_failed(), 0) << "a kill is no row's fault";
    results = stored;
  }
  EXPECT_TRUE(done);
  EXPECT_EQ(results.size(), 400);
  RecordProperty("kills", kills);
}

TEST(CrashMarkerTest, IsLeftByOwnCrashesOnly) {
  struct Case {
    int signal_number;
    bool crash;
  };
  const Case cases[] = {{SIGSEGV, true}, {SIGABRT, true},  {SIGBUS, true},  {SIGILL, true},
                        {SIGFPE, true},  {SIGKILL, false}, {SIGTERM, false}};
  for (const Case& c : cases) {
    const TempFolder folder;
    Victim victim(absl::StrCat(c.signal_number), folder.path());
    int status = 0;
    victim.Collect(&status);
    EXPECT_TRUE(WIFSIGNALED(status) || c.crash) << c.signal_number;
    const auto marker = FindCrashMarker(folder.path());
    ASSERT_TRUE(marker.ok());
    EXPECT_EQ(*marker != 0, c.crash) << "signal " << c.signal_number;
    EXPECT_TRUE(RemoveCrashMarker(folder.path()).ok());
    EXPECT_EQ(*FindCrashMarker(folder.path()), 0);
    EXPECT_TRUE(RemoveCrashMarker(folder.path()).ok());
  }
}

// An operator who sends SIGSEGV or SIGABRT wants the core of a daemon that misbehaves.
TEST(CrashMarkerTest, TheSameSignalsFromAnotherProcessCountToo) {
  const TempFolder folder;
  Victim victim("wait", folder.path());
  victim.WaitForLines(1);
  victim.Kill(SIGSEGV);
  int status = 0;
  victim.Collect(&status);
  EXPECT_NE(*FindCrashMarker(folder.path()), 0);
}

TEST(CrashMarkerTest, AMissingFolderIsNamed) {
  EXPECT_EQ(CrashMarker::Install("/nonexistent/store").status().code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace moelight
