// Goal: what the configuration says about cores reaches the cpu backend, and what it cannot mean is
// refused with the key.
#include "engine/cpu_options.h"

#include <string>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/backend/cpu/isa.h"
#include "engine/base/cpu_placement.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

std::string Error(const EngineOptions& options) {
  return std::string(CpuBackendOptions(options, nullptr).status().message());
}

TEST(CpuOptionsTest, TheNamedIsaIsTheBackends) {
  for (const CpuIsa& isa : CpuIsas()) {
    EngineOptions options;
    options.cpu_isa = std::string(isa.name);
    options.cpu_threads = 2;
    const absl::StatusOr<BackendOptions> backend_options = CpuBackendOptions(options, nullptr);
    if (!isa.supported()) {
      EXPECT_THAT(Error(options), HasSubstr("engine.cpu_isa: isa"));
      continue;
    }
    ASSERT_TRUE(backend_options.ok()) << backend_options.status();
    for (const char* device : {"cpu", "auto"}) {
      options.device = device;
      const auto backend = CreateDevice(options, *backend_options);
      ASSERT_TRUE(backend.ok()) << backend.status();
      if ((*backend)->has_device_memory()) continue;  // a GPU is chosen all the same
      EXPECT_EQ((*backend)->description(), absl::StrCat("cpu (", isa.name, ", 2 threads)"));
    }
  }
}

TEST(CpuOptionsTest, UnknownNamesAreRefused) {
  EngineOptions options;
  options.cpu_isa = "sse9";
  EXPECT_THAT(Error(options), HasSubstr("engine.cpu_isa: isa \"sse9\" is unknown; there are avx2"));
  EXPECT_TRUE(absl::IsInvalidArgument(CpuBackendOptions(options, nullptr).status()));
  options.cpu_isa = "auto";
  options.cpu_pinning = "maybe";
  EXPECT_EQ(Error(options), "engine.cpu_pinning: \"maybe\" is not one of auto, on, off");
}

TEST(CpuOptionsTest, PinningFollowsTheKey) {
  const int num_cpus = static_cast<int>(AllowedCpus()->size());
  const auto pins = [](const char* pinning, int num_threads) {
    EngineOptions options;
    options.cpu_pinning = pinning;
    options.cpu_threads = num_threads;
    return CpuBackendOptions(options, nullptr)->pin_threads;
  };
  EXPECT_EQ(pins("on", 2), num_cpus >= 2);
  EXPECT_FALSE(pins("on", 1)) << "the caller alone";
  EXPECT_FALSE(pins("on", num_cpus + 1));
  EXPECT_FALSE(pins("off", num_cpus));
  EXPECT_FALSE(pins("auto", 3)) << "a small machine, or a small part of one";
  EXPECT_EQ(pins("auto", num_cpus), num_cpus >= 4);
  EXPECT_EQ(pins("auto", num_cpus - 1), num_cpus > 4);
  EXPECT_FALSE(pins("auto", num_cpus - 2));
  EXPECT_FALSE(pins("auto", num_cpus + 1));
}

TEST(CpuOptionsTest, WhoCannotPinIsTold) {
  EngineOptions options;
  options.cpu_pinning = "on";
  options.cpu_threads = static_cast<int32_t>(AllowedCpus()->size()) + 1;
  absl::Status why_not_pinned;
  ASSERT_TRUE(CpuBackendOptions(options, &why_not_pinned).ok());
  EXPECT_THAT(std::string(why_not_pinned.message()), HasSubstr("some would have to share"));
}

TEST(CpuOptionsTest, APinnedBackendSaysSo) {
  if (AllowedCpus()->size() < 2) GTEST_SKIP() << "one CPU";
  EngineOptions options;
  options.device = "cpu";
  options.cpu_pinning = "on";
  options.cpu_threads = 2;
  const auto backend = CreateDevice(options, *CpuBackendOptions(options, nullptr));
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_THAT((*backend)->description(), HasSubstr(", 2 threads, pinned)"));
}

}  // namespace
}  // namespace moelight
