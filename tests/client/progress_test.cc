// Goal: the bar fits its terminal and the plain lines do not flood a log.
#include "client/progress.h"

#include <sstream>
#include <string>

#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moelight::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kStart = absl::FromUnixSeconds(1'000'000);

v1::BatchJob Job(v1::BatchJob::State state, int64_t done, int64_t tokens) {
  v1::BatchJob job;
  job.set_job_id("job-0123456789abcdef");
  job.set_state(state);
  job.set_num_rows(200);
  job.set_num_succeeded(done);
  job.set_generated_tokens(tokens);
  return job;
}

TEST(ProgressTest, PlainLinesComeOnNewStatesAndNowAndThen) {
  std::ostringstream out;
  Progress progress(out, {});
  progress.Update(Job(v1::BatchJob::STATE_QUEUED, 0, 0), kStart);
  for (int i = 0; i < 20; ++i) {
    progress.Update(Job(v1::BatchJob::STATE_RUNNING, 10 * i, 1000 * i),
                    kStart + i * absl::Milliseconds(500));
  }
  progress.Update(Job(v1::BatchJob::STATE_SUCCEEDED, 200, 20'000), kStart + absl::Seconds(10));
  progress.Finish();
  EXPECT_EQ(out.str(),
            "job-0123456789abcdef QUEUED: 0/200 rows 0%\n"
            "job-0123456789abcdef RUNNING: 0/200 rows 0%\n"
            "job-0123456789abcdef RUNNING: 100/200 rows 50%, 2,000 tok/s, ETA 0:05\n"
            "job-0123456789abcdef SUCCEEDED: 200/200 rows 100%\n");
}

TEST(ProgressTest, RatesCoverTheLastSecondsOnly) {
  std::ostringstream out;
  Progress progress(out, {.line_interval = absl::ZeroDuration()});
  for (int i = 0; i <= 60; ++i) {
    // A slow start, then 100 tokens a second.
    progress.Update(Job(v1::BatchJob::STATE_RUNNING, i, i < 30 ? i : 100 * i),
                    kStart + absl::Seconds(i));
  }
  const std::vector<std::string> lines = absl::StrSplit(out.str(), '\n');
  EXPECT_THAT(lines[20], HasSubstr(" 1 tok/s"));
  EXPECT_THAT(lines[60], HasSubstr(" 100 tok/s, ETA 2:20"));
}

TEST(ProgressTest, FailuresAreShown) {
  std::ostringstream out;
  Progress progress(out, {});
  v1::BatchJob job = Job(v1::BatchJob::STATE_CANCELLED, 10, 0);
  job.set_num_failed(3);
  job.set_num_cancelled(187);
  progress.Update(job, kStart);
  EXPECT_THAT(out.str(), HasSubstr("200/200 rows 100%, 3 failed, 187 cancelled"));
}

TEST(ProgressTest, ADeadlineThatCannotBeKeptIsShownUntilTheEnd) {
  std::ostringstream out;
  Progress progress(out, {});
  v1::BatchJob job = Job(v1::BatchJob::STATE_QUEUED, 0, 0);
  job.set_deadline_unreachable(true);
  progress.Update(job, kStart);
  job.set_state(v1::BatchJob::STATE_EXPIRED);
  progress.Update(job, kStart);
  EXPECT_EQ(out.str(),
            "job-0123456789abcdef QUEUED: 0/200 rows 0%, expires before its end\n"
            "job-0123456789abcdef EXPIRED: 0/200 rows 0%\n");
}

TEST(ProgressTest, TheBarFitsTheTerminal) {
  for (const int columns : {1, 20, 60, 79, 80, 200}) {
    std::ostringstream out;
    Progress progress(out, {.terminal = true, .columns = columns});
    progress.Update(Job(v1::BatchJob::STATE_RUNNING, 50, 0), kStart);
    progress.Update(Job(v1::BatchJob::STATE_RUNNING, 100, 5000), kStart + absl::Seconds(1));
    progress.Finish();
    EXPECT_EQ(out.str().back(), '\n');
    const std::vector<std::string> drawings = absl::StrSplit(out.str(), '\r');
    ASSERT_EQ(drawings.size(), 3);
    for (const std::string& drawing : drawings) {
      const std::string line = drawing.substr(0, drawing.find('\x1b'));
      EXPECT_LT(line.size(), columns) << line;
    }
  }
}

TEST(ProgressTest, TheBarIsFilledByShare) {
  std::ostringstream out;
  Progress progress(out, {.terminal = true, .columns = 200});
  progress.Update(Job(v1::BatchJob::STATE_RUNNING, 100, 0), kStart);
  EXPECT_THAT(out.str(), HasSubstr("[###############...............] 100/200 rows 50%"));
  EXPECT_THAT(out.str(), Not(HasSubstr("\n")));
}

TEST(ProgressTest, AnEmptyJob) {
  std::ostringstream out;
  Progress progress(out, {.terminal = true, .columns = 200});
  progress.Update(v1::BatchJob(), kStart);
  EXPECT_THAT(out.str(), HasSubstr("0/0 rows"));
}

}  // namespace
}  // namespace moelight::client
