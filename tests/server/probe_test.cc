// Goal: moelightd probe prints a profile that can be read, or says why it could not.
#include "server/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/hardware_file.h"
#include "tests/server/temp_folder.h"
#include "tests/testing/hardware_profiles.h"

namespace moelight {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

class ProbeTest : public ::testing::Test {
 protected:
  ProbeTest() {
    std::filesystem::create_directory(temp_.path() / "model");
    line_.command = "probe";
    line_.config = temp_.Write("config.yaml", "engine: {model: model, cpu_threads: 3}\n");
    probe_.fingerprint = [](const EngineOptions&) { return "00ff"; };
    probe_.measure = [this](const EngineOptions& options, const HardwareProbe::Progress& progress) {
      EXPECT_EQ(options.cpu_threads, 3);
      progress("memory");
      progress("links");
      return measured_;
    };
  }

  // Runs it and keeps what it printed.
  int Run() {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const int code = RunProbe(line_, {}, probe_);
    output_ = ::testing::internal::GetCapturedStdout();
    errors_ = ::testing::internal::GetCapturedStderr();
    return code;
  }

  TempFolder temp_;
  CommandLine line_;
  HardwareProbe probe_;
  absl::StatusOr<HardwareProfile> measured_ = ProfileWithGpu();
  std::string output_;
  std::string errors_;
};

TEST_F(ProbeTest, PrintsTheProfile) {
  EXPECT_EQ(Run(), 0);
  EXPECT_EQ(errors_, "probe: memory\nprobe: links\n");
  const absl::StatusOr<HardwareProfile> profile = ParseHardwareProfile(output_, "stdout");
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ(profile->fingerprint, "00ff");
}

TEST_F(ProbeTest, WritesAFile) {
  line_.output = (temp_.path() / "out.yaml").string();
  EXPECT_EQ(Run(), 0);
  EXPECT_EQ(output_, "");
  EXPECT_THAT(errors_, EndsWith("out.yaml is written\n"));
  EXPECT_TRUE(ReadHardwareProfile(line_.output).ok());
}

TEST_F(ProbeTest, FailuresAreTold) {
  line_.output = (temp_.path() / "model").string();
  EXPECT_EQ(Run(), kExitFailure);
  EXPECT_THAT(errors_, HasSubstr("model: cannot be written: "));
  measured_ = absl::UnimplementedError("the hardware probe");
  EXPECT_EQ(Run(), kExitFailure);
  EXPECT_THAT(errors_, EndsWith("moelightd: probe: UNIMPLEMENTED: the hardware probe\n"));
}

TEST_F(ProbeTest, MistakesAreToldBeforeAnythingIsMeasured) {
  probe_.measure = [](const EngineOptions&, const HardwareProbe::Progress&) {
    ADD_FAILURE() << "was measured";
    return absl::InternalError("");
  };
  line_.output = (temp_.path() / "none" / "out.yaml").string();
  EXPECT_EQ(Run(), kExitUsage);
  EXPECT_THAT(errors_, EndsWith("out.yaml: its folder does not exist\n"));
  line_.output.clear();
  line_.config = temp_.Write("bad.yaml", "x: 1\n");
  EXPECT_EQ(Run(), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr("bad.yaml:1: x: unknown key"));
}

}  // namespace
}  // namespace moelight
