// Goal: in virtual time the lanes of the simulated machine run beside each other and wait for each
// other as those of a device do, and each op takes what the table of costs says.
#include "engine/backend/simulated/simulated_backend.h"

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "engine/backend/simulated/op_costs.h"
#include "engine/backend/simulated/virtual_clock.h"
#include "tests/testing/test_profiles.h"

namespace moelight {
namespace {

// Streams of one clock, whose tasks take what the test says.
class VirtualClockTest : public testing::Test {
 protected:
  VirtualClockTest() {
    for (SimulatedStream* stream : {&gpu_, &cpu_, &h2d_}) stream->BeginStep(4);
  }
  static void Run(SimulatedStream& stream, int task, double us) {
    stream.BeginTask(task);
    stream.Spend(us);
    stream.EndTask(task);
  }

  const std::shared_ptr<VirtualClock> clock_ = std::make_shared<VirtualClock>();
  SimulatedStream gpu_{Lane::kGpu, clock_};
  SimulatedStream cpu_{Lane::kCpu, clock_};
  SimulatedStream h2d_{Lane::kHostToDevice, clock_};
};

TEST_F(VirtualClockTest, TasksOfALaneFollowEachOther) {
  Run(gpu_, 0, 3);
  Run(gpu_, 2, 4);
  EXPECT_EQ(gpu_.timing(0).begin_us, 0);
  EXPECT_EQ(gpu_.timing(0).end_us, 3);
  EXPECT_EQ(gpu_.timing(2).begin_us, 3);
  EXPECT_EQ(gpu_.timing(2).end_us, 7);
}

TEST_F(VirtualClockTest, LanesWaitOnlyWhereThereIsAnEdge) {
  Run(h2d_, 0, 10);
  Run(gpu_, 1, 4);  // beside the copy
  ASSERT_TRUE(gpu_.WaitFor(h2d_, 0).ok());
  Run(gpu_, 2, 5);
  ASSERT_TRUE(cpu_.WaitFor(gpu_, 1).ok());
  Run(cpu_, 3, 1);
  ASSERT_TRUE(h2d_.WaitFor(cpu_, 3).ok());  // it ended long before
  Run(h2d_, 1, 1);
  EXPECT_EQ(gpu_.timing(1).begin_us, 0);
  EXPECT_EQ(gpu_.timing(2).begin_us, 10);
  EXPECT_EQ(gpu_.timing(2).end_us, 15);
  EXPECT_EQ(cpu_.timing(3).begin_us, 4);
  EXPECT_EQ(h2d_.timing(1).begin_us, 10);
  EXPECT_EQ(clock_->host_us(), 0) << "nobody has waited for any of it";
}

TEST_F(VirtualClockTest, SynchronizeLetsTheHostGoOn) {
  Run(gpu_, 0, 10);
  Run(cpu_, 0, 3);
  ASSERT_TRUE(gpu_.Synchronize().ok());
  EXPECT_EQ(clock_->host_us(), 10);
  ASSERT_TRUE(cpu_.Synchronize().ok());
  EXPECT_EQ(clock_->host_us(), 10) << "time does not go back";
  clock_->AdvanceHost(2);
  // What is issued now begins now, also on a lane that was free before.
  Run(cpu_, 1, 1);
  EXPECT_EQ(cpu_.timing(1).begin_us, 12);
}

TEST_F(VirtualClockTest, LoadsAheadAreTheNextStepsTasks) {
  Run(h2d_, 0, 10);
  h2d_.BeginAhead(2);
  Run(h2d_, 0, 5);
  h2d_.EndAhead();
  Run(h2d_, 3, 1);
  h2d_.BeginAhead(2);
  Run(h2d_, 1, 5);
  h2d_.EndAhead();
  EXPECT_EQ(h2d_.timing(0).end_us, 10) << "still this step's";
  EXPECT_EQ(h2d_.timing(3).begin_us, 15);
  for (SimulatedStream* stream : {&gpu_, &h2d_}) stream->BeginStep(4);
  EXPECT_EQ(h2d_.timing(0).begin_us, 10);
  EXPECT_EQ(h2d_.timing(1).end_us, 21);
  ASSERT_TRUE(gpu_.WaitFor(h2d_, 1).ok());
  Run(gpu_, 2, 1);
  EXPECT_EQ(gpu_.timing(2).begin_us, 21);
}

TEST_F(VirtualClockTest, WorkOnTheHostTakesWhatItsOpsTake) {
  SimulatedStream inner(Lane::kCpu, clock_);
  Run(gpu_, 0, 100);
  cpu_.BeginTask(0);
  cpu_.Spend(1);
  ASSERT_TRUE(cpu_.RunOnHost([&inner]() {
                    inner.Spend(20);
                    inner.Spend(3);
                    return inner.Synchronize();
                  })
                  .ok());
  cpu_.EndTask(0);
  EXPECT_EQ(cpu_.timing(0).end_us, 24);
  EXPECT_EQ(cpu_.RunOnHost([]() { return absl::DataLossError("lost"); }).message(), "lost");
}

using VirtualClockDeathTest = VirtualClockTest;

TEST_F(VirtualClockDeathTest, TasksOutsideTheStepAreRefused) {
  EXPECT_DEATH(gpu_.BeginTask(4), "task 4 of 4");
  EXPECT_DEATH(gpu_.BeginTask(-1), "task -1 of 4");
  EXPECT_DEATH((void)gpu_.timing(4), "task 4 of 4");
}

TEST(SimulatedBackendTest, AMachineWithAGpuHasTwoParts) {
  const SimulatedMachine machine = CreateSimulatedMachine(SmallGpuProfile(), DType::kI8);
  ASSERT_NE(machine.host, nullptr);
  EXPECT_TRUE(machine.device->has_device_memory());
  EXPECT_FALSE(machine.host->has_device_memory());
  EXPECT_TRUE(machine.device->is_virtual());
  EXPECT_EQ(machine.device->free_device_bytes(), SmallGpuProfile().gpu.memory_bytes);
  EXPECT_EQ(machine.host->kv_dtype(), DType::kI8);
  EXPECT_EQ(machine.device->kv_dtype(), DType::kBF16);
  const SimulatedMachine host_only = CreateSimulatedMachine(HostOnlyProfile(), DType::kI8);
  EXPECT_EQ(host_only.host, nullptr);
  EXPECT_FALSE(host_only.device->has_device_memory());
  EXPECT_EQ(host_only.device->kv_dtype(), DType::kI8);
}

TEST(SimulatedBackendTest, MemoryIsAddressesOnly) {
  const SimulatedMachine machine = CreateSimulatedMachine(LargeGpuProfile());
  // Twice the memory of the largest machine here. Not more: ThreadSanitizer leaves a process about
  // 1.5 TiB in one piece, which libraries at random addresses divide.
  constexpr int64_t kBytes = int64_t{256} << 30;
  const absl::StatusOr<std::unique_ptr<DeviceBuffer>> buffer =
      machine.device->AllocateDevice("everything", kBytes);
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  EXPECT_EQ((*buffer)->bytes(), kBytes);
  EXPECT_EQ(reinterpret_cast<uintptr_t>((*buffer)->data()) % 256, 0u);
  // More than a process can name.
  const absl::Status refused = machine.device->AllocateDevice("more", int64_t{1} << 60).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
}

// What `work` takes on a stream of `lane`.
double Took(const SimulatedMachine& machine, Lane lane,
            const std::function<absl::Status(Stream& stream)>& work) {
  const std::unique_ptr<Stream> stream = machine.device->CreateStream(lane);
  stream->BeginStep(1);
  stream->BeginTask(0);
  EXPECT_TRUE(work(*stream).ok());
  stream->EndTask(0);
  return stream->timing(0).end_us - stream->timing(0).begin_us;
}

// Views that are never looked into.
class SimulatedOpsTest : public testing::Test {
 protected:
  TensorView View(DType dtype, std::initializer_list<int64_t> dims) {
    return TensorView::Make(memory_.data(), dtype, dims);
  }

  std::array<char, 16> memory_ = {};
  const HeadGeometry heads_ = {8, 2, 128};
  const SimulatedMachine machine_ = CreateSimulatedMachine(SmallGpuProfile());
  const OpCosts costs_{SmallGpuProfile()};
};

TEST_F(SimulatedOpsTest, ACopyTakesTheLaneThatItRunsOn) {
  const TensorView view = View(DType::kF32, {1000, 1000});
  const auto copy = [&](Stream& stream) { return machine_.device->Copy(view, view, stream); };
  const double into_us = Took(machine_, Lane::kHostToDevice, copy);
  EXPECT_DOUBLE_EQ(into_us, costs_.ToDevice(4'000'000).us);
  EXPECT_DOUBLE_EQ(Took(machine_, Lane::kDeviceToHost, copy), costs_.ToHost(4'000'000).us);
  EXPECT_DOUBLE_EQ(Took(machine_, Lane::kGpu, copy), costs_.DeviceCopy(4'000'000).us);
  const PageCopy pages[] = {{0, 5}, {1, 4}, {2, 9}};
  const CopyPagesArgs args = {memory_.data(), memory_.data(), 4096, pages};
  const auto copy_pages = [&](Stream& stream) { return machine_.device->CopyPages(args, stream); };
  EXPECT_DOUBLE_EQ(Took(machine_, Lane::kHostToDevice, copy_pages),
                   costs_.PagesToDevice(3 * 4096).us);
  EXPECT_DOUBLE_EQ(Took(machine_, Lane::kDeviceToHost, copy_pages),
                   costs_.PagesToHost(3 * 4096).us);
}

// Two sequences: a decode token after 99 positions and a prompt of 10, of which each token sees 4.
TEST_F(SimulatedOpsTest, AttentionIsTimedWhereItRuns) {
  const int32_t block_table[7] = {};
  const AttentionSequence sequences[] = {{0, 1, 99, block_table}, {1, 10, 0, block_table}};
  AttentionArgs args = {View(DType::kF32, {11, heads_.qkv_size()}),
                        heads_,
                        sequences,
                        {memory_.data(), DType::kBF16, 100, 16},
                        1,
                        /*sliding_window=*/4,
                        View(DType::kF32, {11, heads_.q_size()})};
  constexpr int64_t kNumPairs = 4 + (1 + 2 + 3 + 7 * 4);
  EXPECT_DOUBLE_EQ(Took(machine_, Lane::kGpu,
                        [&](Stream& stream) { return machine_.device->Attention(args, stream); }),
                   costs_.DeviceAttention(heads_, kNumPairs, 110 * 2 * 2 * 256).us);
  const std::unique_ptr<Stream> host_stream = machine_.host->CreateStream(Lane::kCpu);
  EXPECT_DOUBLE_EQ(Took(machine_, Lane::kCpu,
                        [&](Stream& stream) {
                          return stream.RunOnHost(
                              [&]() { return machine_.host->Attention(args, *host_stream); });
                        }),
                   costs_.HostAttention(heads_, DType::kBF16, 11, kNumPairs).us);
}

TEST_F(SimulatedOpsTest, ProductsAndRowsAreTimedByTheirShape) {
  const WeightMatrix weight = {memory_.data(), &machine_.device->weight_format(), 3000, 2000};
  const MatMulArgs product = {View(DType::kF32, {17, 2000}), weight, View(DType::kF32, {17, 3000})};
  EXPECT_DOUBLE_EQ(Took(machine_, Lane::kGpu,
                        [&](Stream& stream) { return machine_.device->MatMul(product, stream); }),
                   costs_.MatMul(17, 3000, 2000, weight.format->bytes(3000, 2000), 4).us);
  const RmsNormArgs norm = {View(DType::kF32, {17, 2000}), View(DType::kF32, {2000}), 1e-5,
                            View(DType::kF32, {17, 2000})};
  EXPECT_DOUBLE_EQ(Took(machine_, Lane::kGpu,
                        [&](Stream& stream) { return machine_.device->RmsNorm(norm, stream); }),
                   costs_.Rows(2 * 17 * 2000 * 4).us);
}

using SimulatedOpsDeathTest = SimulatedOpsTest;

// A mistake in the forward pass is found without a device.
TEST_F(SimulatedOpsDeathTest, ShapesAreChecked) {
  const RmsNormArgs norm = {View(DType::kF32, {17, 2000}), View(DType::kF32, {1999}), 1e-5,
                            View(DType::kF32, {17, 2000})};
  const std::unique_ptr<Stream> stream = machine_.device->CreateStream(Lane::kGpu);
  EXPECT_DEATH((void)machine_.device->RmsNorm(norm, *stream), "expected \\[2000\\]");
}

}  // namespace
}  // namespace moelight
