// Goal: a machine is measured once, and again only when what was kept is of no use.
#include "server/hardware_cache.h"

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/hardware_file.h"
#include "tests/server/temp_folder.h"
#include "tests/testing/hardware_profiles.h"

namespace moelight {
namespace {

class HardwareCacheTest : public ::testing::Test {
 protected:
  HardwareCacheTest() {
    probe_.fingerprint = [this](const EngineOptions&) { return fingerprint_; };
    probe_.measure =
        [this](const EngineOptions& options,
               const HardwareProbe::Progress& progress) -> absl::StatusOr<HardwareProfile> {
      ++num_probes_;
      progress("memory");
      if (!failure_.ok()) return failure_;
      HardwareProfile profile = measured_;
      profile.host.num_threads = options.cpu_threads;
      return profile;
    };
    options_.cpu_threads = 3;
  }

  absl::StatusOr<HardwareProfile> Load() {
    return LoadOrProbe(folder(), options_, logger_, probe_);
  }
  std::string folder() const { return (temp_.path() / "store").string(); }
  std::string file() const { return absl::StrCat(folder(), "/hardware-00ff.yaml"); }

  TempFolder temp_;
  Logger& logger_ = Logger::Null();
  EngineOptions options_;
  HardwareProbe probe_;
  absl::StatusOr<std::string> fingerprint_ = "00ff";
  HardwareProfile measured_ = ProfileWithGpu();
  absl::Status failure_;
  int num_probes_ = 0;
};

TEST_F(HardwareCacheTest, MeasuresOnceAndKeepsIt) {
  const absl::StatusOr<HardwareProfile> first = Load();
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->fingerprint, "00ff");
  EXPECT_EQ(first->host.num_threads, 3);
  measured_.name = "another";
  const absl::StatusOr<HardwareProfile> second = Load();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(HardwareProfileToYaml(*second), HardwareProfileToYaml(*first));
  EXPECT_EQ(num_probes_, 1);
}

TEST_F(HardwareCacheTest, AnotherMachineIsMeasured) {
  ASSERT_TRUE(Load().ok());
  fingerprint_ = "00fe";
  EXPECT_EQ(Load()->fingerprint, "00fe");
  fingerprint_ = "00ff";
  EXPECT_EQ(Load()->fingerprint, "00ff");
  EXPECT_EQ(num_probes_, 2);
}

TEST_F(HardwareCacheTest, WhatCannotBeUsedIsMeasuredAgainAndReplaced) {
  HardwareProfile other = ProfileWithGpu();
  other.fingerprint = "00ff of somebody else";
  const std::string texts[] = {"", "name: [", "name: half a file\n", HardwareProfileToYaml(other)};
  int expected = 0;
  for (const std::string& text : texts) {
    std::filesystem::create_directories(folder());
    std::ofstream(file()) << text;
    ASSERT_TRUE(Load().ok()) << text;
    EXPECT_EQ(num_probes_, ++expected) << text;
    ASSERT_TRUE(Load().ok());
    EXPECT_EQ(num_probes_, expected) << text;
  }
}

TEST_F(HardwareCacheTest, AFileThatCannotBeWrittenIsNoError) {
  temp_.Write("store", "a file where the folder should be");
  EXPECT_TRUE(Load().ok());
  EXPECT_TRUE(Load().ok());
  EXPECT_EQ(num_probes_, 2);
}

TEST_F(HardwareCacheTest, FailuresAreHandedOnAndNotKept) {
  failure_ = absl::ResourceExhaustedError("no memory for the probe");
  EXPECT_EQ(Load().status(), failure_);
  failure_ = absl::OkStatus();
  measured_.link.latency_us = 0;
  EXPECT_EQ(Load().status(),
            absl::InternalError("measured nonsense: link.latency_us: 0 is not positive"));
  EXPECT_FALSE(std::filesystem::exists(file()));
  fingerprint_ = absl::UnavailableError("no driver");
  EXPECT_EQ(Load().status(), fingerprint_.status());
  EXPECT_EQ(num_probes_, 2);
}

TEST_F(HardwareCacheTest, FingerprintsDoNotLeadElsewhere) {
  fingerprint_ = absl::StrCat("../../a b/", std::string(200, 'x'));
  ASSERT_TRUE(Load().ok());
  ASSERT_TRUE(Load().ok());
  EXPECT_EQ(num_probes_, 1);
  const std::filesystem::directory_iterator files(folder());
  EXPECT_EQ(files->path().filename().string(),
            absl::StrCat("hardware-______a_b_", std::string(54, 'x'), ".yaml"));
}

}  // namespace
}  // namespace moelight
