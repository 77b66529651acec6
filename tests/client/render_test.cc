// Goal: numbers, times, jobs and tables read the same everywhere.
#include "client/render.h"

#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace moelight::client {
namespace {

TEST(RenderTest, WithCommas) {
  EXPECT_EQ(WithCommas(0), "0");
  EXPECT_EQ(WithCommas(999), "999");
  EXPECT_EQ(WithCommas(1000), "1,000");
  EXPECT_EQ(WithCommas(-100), "-100");
  EXPECT_EQ(WithCommas(-1234567), "-1,234,567");
  EXPECT_EQ(WithCommas(std::numeric_limits<int64_t>::min()), "-9,223,372,036,854,775,808");
}

TEST(RenderTest, ClockTime) {
  EXPECT_EQ(ClockTime(absl::Seconds(-5)), "0:00");
  EXPECT_EQ(ClockTime(absl::Seconds(7)), "0:07");
  EXPECT_EQ(ClockTime(absl::Seconds(754)), "12:34");
  EXPECT_EQ(ClockTime(absl::Seconds(3 * 3600 + 754)), "3:12:34");
  EXPECT_EQ(ClockTime(absl::Hours(51) + absl::Minutes(12)), "2d 03:12");
  EXPECT_EQ(ClockTime(absl::InfiniteDuration()), "36525d 00:00");
}

TEST(RenderTest, StateName) {
  EXPECT_EQ(StateName(v1::BatchJob::STATE_RUNNING), "RUNNING");
  // A newer server may have states that this client does not know.
  EXPECT_EQ(StateName(static_cast<v1::BatchJob::State>(77)), "STATE_77");
}

TEST(RenderTest, JobJsonHasEveryFieldOfTheProtocol) {
  v1::BatchJob job;
  job.set_job_id("job-1");
  job.set_num_rows(int64_t{1} << 40);
  job.mutable_create_time()->set_seconds(0);
  job.mutable_labels()->insert({"team", "night"});
  const nlohmann::ordered_json json = JobJson(job);
  EXPECT_EQ(json["num_rows"], int64_t{1} << 40);
  EXPECT_EQ(json["create_time"], "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(json["end_time"], nullptr);
  EXPECT_EQ(json["error"], nullptr);
  EXPECT_EQ(json["labels"]["team"], "night");
  const auto* descriptor = v1::BatchJob::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    // The rows' defaults are an input that no script asks for.
    if (descriptor->field(i)->name() == "default_sampling") continue;
    EXPECT_TRUE(json.contains(descriptor->field(i)->name())) << descriptor->field(i)->name();
  }
}

TEST(RenderTest, TableAlignsAndDefusesControlCharacters) {
  const std::vector<std::string> header = {"A", "LONGER"};
  const std::vector<std::string> row = {"wide cell", "x\x1b[2J\n"};
  EXPECT_EQ(Table({header, row}), "A          LONGER\nwide cell  x?[2J?\n");
}

}  // namespace
}  // namespace moelight::client
