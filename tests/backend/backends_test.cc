// The table of backends, the choice among them, and their streams.
#include <absl/strings/match.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/isa.h"
#include "tests/backend/op_harness.h"

namespace moelight {
namespace {

using testing::HasSubstr;

TEST(BackendsTest, EveryRowThatRunsHereDescribesItself) {
  for (const BackendEntry& entry : Backends()) {
    const auto backend = CreateBackend(entry.name, {});
    if (absl::IsFailedPrecondition(backend.status())) continue;
    ASSERT_TRUE(backend.ok()) << backend.status();
    EXPECT_EQ((*backend)->name(), entry.name);
    EXPECT_THAT((*backend)->description(), HasSubstr(std::string(entry.name)));
    EXPECT_EQ(FindWeightFormat((*backend)->weight_format().name), &(*backend)->weight_format());
  }
}

TEST(BackendsTest, AutoIsTheFastestVariantOfTheCpuBackend) {
  const auto isa = ChooseCpuIsa("");
  if (!isa.ok()) GTEST_SKIP() << isa.status();
  const auto backend = CreateBackend("auto", {.num_threads = 2, .isa = ""});
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_EQ((*backend)->description(), absl::StrCat("cpu (", (*isa)->name, ", 2 threads)"));
}

TEST(BackendsTest, RefusesByName) {
  const struct {
    const char* name;
    BackendOptions options;
    const char* message;
  } kCases[] = {
      {"gpu", {}, "backend \"gpu\" is unknown; there are auto, cpu, reference"},
      {"", {}, "backend \"\" is unknown"},
      {"cpu", {1, "sse9"}, "isa \"sse9\" is unknown; there are avx2, avx512, avx512_bf16"},
      {"auto", {1, "sse9"}, "isa \"sse9\" is unknown"},
      {"reference", {1, "avx2"}, "has no isa variants"},
      {"cpu", {0, ""}, "num_threads is 0, must be at least 1"},
  };
  for (const auto& refused : kCases) {
    const auto backend = CreateBackend(refused.name, refused.options);
    EXPECT_TRUE(absl::IsInvalidArgument(backend.status())) << backend.status();
    EXPECT_THAT(std::string(backend.status().message()), HasSubstr(refused.message));
  }
}

TEST(BackendsTest, AnIsaThatTheMachineLacksIsRefused) {
  for (const CpuIsa& isa : CpuIsas()) {
    const auto chosen = ChooseCpuIsa(isa.name);
    if (isa.supported()) {
      ASSERT_TRUE(chosen.ok());
      EXPECT_EQ((*chosen)->name, isa.name);
    } else {
      EXPECT_TRUE(absl::IsInvalidArgument(chosen.status()));
      EXPECT_THAT(std::string(chosen.status().message()), HasSubstr("which this machine lacks"));
    }
  }
}

TEST(BackendsTest, ReserveRefusesHeadsItCannotRun) {
  const auto backend = CreateBackend("auto", {});
  if (!backend.ok()) GTEST_SKIP() << backend.status();
  for (int32_t head_dim : {0, 33, 1024}) {
    OpLimits limits = TestLimits();
    limits.heads.head_dim = head_dim;
    EXPECT_TRUE(absl::IsInvalidArgument((*backend)->Reserve(limits))) << head_dim;
  }
}

TEST(BackendsTest, ScratchBytesGrowWithTheLimits) {
  for (const BackendEntry& entry : Backends()) {
    const auto backend = CreateBackend(entry.name, {});
    if (!backend.ok()) continue;
    OpLimits limits = TestLimits();
    const int64_t bytes = (*backend)->scratch_bytes(limits);
    EXPECT_GT(bytes, 0);
    limits.max_model_len *= 2;
    EXPECT_GT((*backend)->scratch_bytes(limits), bytes);
  }
}

class StreamTest : public testing::Test {
 protected:
  TestBackend reference_ = TestBackend::Reference();
  std::unique_ptr<Stream> other_ = reference_.backend->CreateStream(Lane::kCpu);
};

TEST_F(StreamTest, TasksAreTimedInOrderOnOneClock) {
  Stream& stream = *reference_.stream;
  stream.BeginStep(3);
  other_->BeginStep(3);
  stream.BeginTask(0);
  stream.EndTask(0);
  ASSERT_TRUE(other_->WaitFor(stream, 0).ok());
  other_->BeginTask(2);
  other_->EndTask(2);
  ASSERT_TRUE(stream.Synchronize().ok());
  EXPECT_LE(stream.timing(0).begin_us, stream.timing(0).end_us);
  EXPECT_LE(stream.timing(0).end_us, other_->timing(2).begin_us);
  EXPECT_LE(other_->timing(2).begin_us, other_->timing(2).end_us);
}

TEST_F(StreamTest, WrongOrderIsABug) {
  Stream& stream = *reference_.stream;
  stream.BeginStep(2);
  other_->BeginStep(2);
  EXPECT_DEATH(stream.WaitFor(*other_, 1).IgnoreError(), "before it was issued");
  EXPECT_DEATH(stream.BeginTask(2), "task 2 of 2");
  EXPECT_DEATH(stream.EndTask(1), "task 1 is not running");
  stream.BeginTask(0);
  EXPECT_DEATH(stream.BeginTask(0), "task 0 began twice");
}

}  // namespace
}  // namespace moelight
