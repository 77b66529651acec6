// The table of backends, the choice among them, and their streams.
#include <absl/strings/str_cat.h>
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

TEST(BackendsTest, AutoIsTheFirstRowThatRunsHere) {
  const auto backend = CreateBackend("auto", {});
  if (!backend.ok()) GTEST_SKIP() << backend.status();
  for (const BackendEntry& entry : Backends()) {
    if (!entry.in_auto || !CreateBackend(entry.name, {}).ok()) continue;
    EXPECT_EQ((*backend)->name(), entry.name);
    break;
  }
}

TEST(BackendsTest, AutoWithoutAGpuIsTheFastestVariantOfTheCpuBackend) {
  if (CreateBackend("cuda", {}).ok()) GTEST_SKIP() << "there is a GPU";
  const auto isa = ChooseCpuIsa("");
  if (!isa.ok()) GTEST_SKIP() << isa.status();
  const auto backend = CreateBackend("auto", {.num_threads = 2, .isa = ""});
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_EQ((*backend)->description(), absl::StrCat("cpu (", (*isa)->name, ", 2 threads)"));
}

// Only cpu has variants of that name.
TEST(BackendsTest, AutoWithAnIsaIsTheCpuBackend) {
  const auto isa = ChooseCpuIsa("");
  if (!isa.ok()) GTEST_SKIP() << isa.status();
  const auto backend = CreateBackend("auto", {.num_threads = 1, .isa = std::string((*isa)->name)});
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_EQ((*backend)->name(), "cpu");
}

TEST(BackendsTest, RefusesByName) {
  std::string names = "auto";
  for (const BackendEntry& entry : Backends()) absl::StrAppend(&names, ", ", entry.name);
  const std::string unknown = absl::StrCat("backend \"gpu\" is unknown; there are ", names);
  const struct {
    const char* name;
    BackendOptions options;
    const char* message;
  } kCases[] = {
      {"gpu", {}, unknown.c_str()},
      {"", {}, "backend \"\" is unknown"},
      {"cpu", {1, "sse9"}, "isa \"sse9\" is unknown; there are avx2"},
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
      EXPECT_THAT(std::string(chosen.status().message()),
                  HasSubstr("which this machine lacks; there are avx2"));
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
    limits.max_tokens *= 2;
    limits.max_model_len *= 2;
    EXPECT_GT((*backend)->scratch_bytes(limits), bytes);
  }
}

// Streams of a backend of the host, whose ops have ended when they return, and of a GPU.
class StreamTest : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend_ = *CreateBackend(GetParam(), {});
  const absl::Status reserved_ = backend_->Reserve(TestLimits());
  std::unique_ptr<Stream> stream_ = backend_->CreateStream(Lane::kGpu);
  std::unique_ptr<Stream> other_ = backend_->CreateStream(Lane::kCpu);
};

TEST_P(StreamTest, TasksAreTimedInOrderOnOneClock) {
  for (int step = 0; step < 5; ++step) {
    stream_->BeginStep(3);
    other_->BeginStep(3);
    stream_->BeginTask(0);
    stream_->EndTask(0);
    ASSERT_TRUE(other_->WaitFor(*stream_, 0).ok());
    other_->BeginTask(2);
    other_->EndTask(2);
    ASSERT_TRUE(stream_->Synchronize().ok());
    ASSERT_TRUE(other_->Synchronize().ok());
    EXPECT_LE(stream_->timing(0).begin_us, stream_->timing(0).end_us);
    EXPECT_LE(stream_->timing(0).end_us, other_->timing(2).begin_us);
    EXPECT_LE(other_->timing(2).begin_us, other_->timing(2).end_us);
  }
}

TEST_P(StreamTest, StepsFollowEachOther) {
  double last_end_us = 0;
  for (int step = 0; step < 20; ++step) {
    stream_->BeginStep(1);
    stream_->BeginTask(0);
    stream_->EndTask(0);
    ASSERT_TRUE(stream_->Synchronize().ok());
    EXPECT_GE(stream_->timing(0).begin_us, last_end_us);
    last_end_us = stream_->timing(0).end_us;
  }
  EXPECT_GT(last_end_us, 0);
}

TEST_P(StreamTest, TasksIssuedAheadBelongToTheNextStep) {
  stream_->BeginStep(3);
  other_->BeginStep(3);
  stream_->BeginTask(0);
  stream_->EndTask(0);
  for (int task : {0, 1}) {
    stream_->BeginAhead(2);
    stream_->BeginTask(task);
    stream_->EndTask(task);
    stream_->EndAhead();
  }
  stream_->BeginTask(1);
  stream_->EndTask(1);
  const double first_begin_us = stream_->Synchronize().ok() ? stream_->timing(0).begin_us : 0;
  stream_->BeginStep(4);
  other_->BeginStep(4);
  EXPECT_TRUE(other_->WaitFor(*stream_, 1).ok());
  stream_->BeginTask(2);
  stream_->EndTask(2);
  ASSERT_TRUE(stream_->Synchronize().ok());
  EXPECT_GE(stream_->timing(0).begin_us, first_begin_us);
  EXPECT_LE(stream_->timing(0).end_us, stream_->timing(1).begin_us);
  EXPECT_LE(stream_->timing(1).end_us, stream_->timing(2).begin_us);
}

TEST_P(StreamTest, HostWorkRunsInOrder) {
  std::vector<int> order;
  stream_->BeginStep(1);
  other_->BeginStep(2);
  stream_->BeginTask(0);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(stream_
                    ->RunOnHost([&order, i] {
                      order.push_back(i);
                      return absl::OkStatus();
                    })
                    .ok());
  }
  stream_->EndTask(0);
  ASSERT_TRUE(other_->WaitFor(*stream_, 0).ok());
  size_t num_seen = 0;
  ASSERT_TRUE(other_
                  ->RunOnHost([&order, &num_seen] {
                    num_seen = order.size();
                    return absl::OkStatus();
                  })
                  .ok());
  ASSERT_TRUE(other_->Synchronize().ok());
  EXPECT_EQ(num_seen, 100);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[i], i);
}

TEST_P(StreamTest, AnErrorOfHostWorkComesBackOnce) {
  stream_->BeginStep(0);
  absl::Status status = stream_->RunOnHost([] { return absl::DataLossError("no disk"); });
  status.Update(stream_->Synchronize());
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_TRUE(stream_->Synchronize().ok());
}

std::vector<std::string> StreamBackends() {
  std::vector<std::string> names = {"reference"};
  if (CreateBackend("cuda", {}).ok()) names.push_back("cuda");
  return names;
}
INSTANTIATE_TEST_SUITE_P(All, StreamTest, testing::ValuesIn(StreamBackends()),
                         [](const auto& info) { return info.param; });

TEST(StreamDeathTest, WrongOrderIsABug) {
  TestBackend reference = TestBackend::Reference();
  Stream& stream = *reference.stream;
  const std::unique_ptr<Stream> other = reference.backend->CreateStream(Lane::kCpu);
  stream.BeginStep(2);
  other->BeginStep(2);
  EXPECT_DEATH(stream.WaitFor(*other, 1).IgnoreError(), "before it was issued");
  EXPECT_DEATH(stream.BeginTask(2), "task 2 of 2");
  EXPECT_DEATH(stream.EndTask(1), "task 1 is not running");
  stream.BeginTask(0);
  EXPECT_DEATH(stream.BeginTask(0), "task 0 began twice");
}

}  // namespace
}  // namespace moelight
