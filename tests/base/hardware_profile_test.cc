// Goal: a profile that the planner could not use is refused, and the message names the field as a
// file has it.
#include "engine/base/hardware_profile.h"

#include <functional>
#include <limits>

#include <gtest/gtest.h>

#include "tests/testing/hardware_profiles.h"

namespace moelight {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(HardwareProfileTest, WholeProfilesAreValid) {
  EXPECT_EQ(ValidateHardwareProfile(ProfileWithGpu()), absl::OkStatus());
  EXPECT_EQ(ValidateHardwareProfile(ProfileWithoutGpu()), absl::OkStatus());
}

TEST(HardwareProfileTest, WhatMayBeUnknownMayBeLeftOut) {
  HardwareProfile profile = ProfileWithGpu();
  profile.fingerprint.clear();
  profile.host.pinnable_bytes = -1;
  profile.host.read_bytes_per_s_by_threads = {};
  profile.power = {};
  EXPECT_EQ(ValidateHardwareProfile(profile), absl::OkStatus());
}

struct InvalidCase {
  const char* error;
  std::function<void(HardwareProfile&)> change;
};

using P = HardwareProfile;
const InvalidCase kInvalidCases[] = {
    {"name: empty", [](P& p) { p.name.clear(); }},
    {"source: empty", [](P& p) { p.source.clear(); }},
    {"host.name: empty", [](P& p) { p.host.name.clear(); }},
    {"host.num_threads: 0 is not positive", [](P& p) { p.host.num_threads = 0; }},
    {"host.num_threads: 5000 is more than 4096", [](P& p) { p.host.num_threads = 5000; }},
    {"host.memory_bytes: -1 is not positive", [](P& p) { p.host.memory_bytes = -1; }},
    {"host.pinnable_bytes: -2 is less than -1", [](P& p) { p.host.pinnable_bytes = -2; }},
    {"host.read_bytes_per_s: nan is not a finite number",
     [](P& p) { p.host.read_bytes_per_s = kNan; }},
    {"host.read_bytes_per_s: inf is not a finite number",
     [](P& p) { p.host.read_bytes_per_s = kInfinity; }},
    {"host.read_bytes_per_s: 1e+19 is more than 1e+18",
     [](P& p) { p.host.read_bytes_per_s = 1e19; }},
    {"host.read_bytes_per_s_by_threads[1].size: 1 is not more than 1, the size of the point "
     "before",
     [](P& p) { p.host.read_bytes_per_s_by_threads.points[1].size = 1; }},
    {"host.shared_bytes_per_s: 0 is not positive", [](P& p) { p.host.shared_bytes_per_s = 0; }},
    {"host.peak_flops_per_s: -1 is not positive", [](P& p) { p.host.peak_flops_per_s = -1; }},
    {"host.attention: empty", [](P& p) { p.host.attention.clear(); }},
    {"host.attention[0].kv_format: empty", [](P& p) { p.host.attention[0].kv_format.clear(); }},
    {"host.attention[1].group_size: 0 is not positive",
     [](P& p) { p.host.attention[1].group_size = 0; }},
    {"host.attention[0].bytes_per_s: empty", [](P& p) { p.host.attention[0].bytes_per_s = {}; }},
    {"host.attention[0].bytes_per_s[1].rate: 0 is not positive",
     [](P& p) { p.host.attention[0].bytes_per_s.points[1].rate = 0; }},
    {"host.attention[0].bytes_per_s[0].size: nan is not a finite number",
     [](P& p) { p.host.attention[0].bytes_per_s.points[0].size = kNan; }},
    {"host.attention[1]: the same kv_format and group_size as in host.attention[0]",
     [](P& p) { p.host.attention[1] = p.host.attention[0]; }},
    {"host.experts: empty", [](P& p) { p.host.experts.clear(); }},
    {"host.experts[1].hidden_size: 0 is not positive",
     [](P& p) { p.host.experts[1].hidden_size = 0; }},
    {"host.experts[0].intermediate_size: 2000000 is more than 1048576",
     [](P& p) { p.host.experts[0].intermediate_size = 2'000'000; }},
    {"host.experts[0].flops_per_s[0].size: 0 is not positive",
     [](P& p) { p.host.experts[0].flops_per_s.points[0].size = 0; }},
    {"host.experts[1]: the same sizes as in host.experts[0]",
     [](P& p) { p.host.experts[1] = p.host.experts[0]; }},
    {"host.sample_bytes_per_s: 0 is not positive", [](P& p) { p.host.sample_bytes_per_s = 0; }},
    {"gpu.name: empty", [](P& p) { p.gpu.name.clear(); }},
    {"gpu.count: -1 is less than 0", [](P& p) { p.gpu.count = -1; }},
    {"gpu.count: 65 is more than 64", [](P& p) { p.gpu.count = 65; }},
    {"gpu.memory_bytes: 0 is not positive", [](P& p) { p.gpu.memory_bytes = 0; }},
    {"gpu.memory_bytes_per_s: 0 is not positive", [](P& p) { p.gpu.memory_bytes_per_s = 0; }},
    {"gpu.launch_us: 0 is not positive", [](P& p) { p.gpu.launch_us = 0; }},
    {"gpu.matmul_flops_per_s: empty", [](P& p) { p.gpu.matmul_flops_per_s = {}; }},
    {"gpu.experts: empty", [](P& p) { p.gpu.experts.clear(); }},
    {"gpu.experts[1]: the same sizes as in gpu.experts[0]",
     [](P& p) { p.gpu.experts.push_back(p.gpu.experts[0]); }},
    {"gpu.attention_flops_per_s: 0 is not positive", [](P& p) { p.gpu.attention_flops_per_s = 0; }},
    {"link.h2d_bytes_per_s: empty", [](P& p) { p.link.h2d_bytes_per_s = {}; }},
    {"link.d2h_bytes_per_s: empty", [](P& p) { p.link.d2h_bytes_per_s = {}; }},
    {"link.both_bytes_per_s: 0 is not positive", [](P& p) { p.link.both_bytes_per_s = 0; }},
    {"link.latency_us: 0 is not positive", [](P& p) { p.link.latency_us = 0; }},
    {"power.idle_watts: -1 is less than 0", [](P& p) { p.power.idle_watts = -1; }},
    {"power.link_watts: inf is not a finite number", [](P& p) { p.power.link_watts = kInfinity; }},
};

TEST(HardwareProfileTest, InvalidFieldsAreNamed) {
  for (const InvalidCase& row : kInvalidCases) {
    HardwareProfile profile = ProfileWithGpu();
    row.change(profile);
    const absl::Status status = ValidateHardwareProfile(profile);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << row.error;
    EXPECT_EQ(status.message(), row.error);
  }
}

TEST(HardwareProfileTest, FieldsOfNoGpuAreNotNeededButCheckedWhereGiven) {
  HardwareProfile profile = ProfileWithGpu();
  profile.gpu.count = 0;
  EXPECT_EQ(ValidateHardwareProfile(profile), absl::OkStatus());
  profile.link.latency_us = kNan;
  EXPECT_EQ(ValidateHardwareProfile(profile).message(),
            "link.latency_us: nan is not a finite number");
}

}  // namespace
}  // namespace moelight
