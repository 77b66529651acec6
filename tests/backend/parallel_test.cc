// ParallelRunner covers every index once, on workers it names, with plain memory in between.
#include "engine/base/parallel.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "engine/base/cpu_placement.h"

namespace moelight {
namespace {

TEST(ParallelRunnerTest, CoversEveryIndexOnce) {
  for (int num_threads : {1, 2, 5}) {
    ParallelRunner runner(num_threads);
    for (int64_t n : {0, 1, 2, 7, 100}) {
      for (int64_t grain : {0, 1, 3, 100, 1000}) {
        std::vector<int> visits(n, 0);
        runner.For(n, grain, [&](int64_t begin, int64_t end) {
          ASSERT_LT(begin, end);
          for (int64_t i = begin; i < end; ++i) ++visits[i];
        });
        EXPECT_EQ(visits, std::vector<int>(n, 1)) << num_threads << ", " << n << ", " << grain;
      }
    }
  }
}

// Workers sum into slots of their own, without atomics; the caller reads them after the join and
// writes what the next loop reads.
TEST(ParallelRunnerTest, ForkAndJoinOrderMemory) {
  ParallelRunner runner(4);
  std::vector<int64_t> sums(runner.num_threads(), 0);
  int64_t factor = 0;
  int64_t expected = 0;
  for (int round = 0; round < 200; ++round) {
    factor = round;
    runner.For(64, 1, [&](int64_t begin, int64_t end) {
      const int worker = runner.WorkerIndex();
      ASSERT_GE(worker, 0);
      ASSERT_LT(worker, runner.num_threads());
      sums[worker] += factor * (end - begin);
    });
    expected += factor * 64;
    EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), int64_t{0}), expected);
  }
  EXPECT_EQ(runner.WorkerIndex(), 0);
}

using Cpus = std::vector<int>;

// Where the calling thread may run.
Cpus MaskOfThread() {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  Cpus cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

// The mask of each worker while it runs a loop; empty: it has never come. Workers need some time to
// wake up, so the loops are repeated, up to a number that none should need.
std::vector<Cpus> MasksOfWorkers(ParallelRunner& runner) {
  std::vector<Cpus> masks(runner.num_threads());
  const auto has_come = [](const Cpus& mask) { return !mask.empty(); };
  for (int loop = 0; loop < 1000 && !std::all_of(masks.begin(), masks.end(), has_come); ++loop) {
    runner.For(64, 1, [&](int64_t, int64_t) {
      masks[runner.WorkerIndex()] = MaskOfThread();
      const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
      while (std::chrono::steady_clock::now() < end) continue;
    });
  }
  return masks;
}

TEST(ParallelRunnerTest, PinnedWorkersHaveACpuEach) {
  const Cpus all = MaskOfThread();
  const int num_threads = std::min<int>(4, static_cast<int>(all.size()));
  if (num_threads < 2) GTEST_SKIP() << "one CPU";
  for (int round = 0; round < 3; ++round) {
    ParallelRunner runner({num_threads, /*pin=*/true});
    EXPECT_TRUE(runner.is_pinned());
    EXPECT_EQ(MaskOfThread(), all) << "before the first loop";
    const Cpus places = PlaceWorkers(*AllowedCpus(), num_threads);
    const std::vector<Cpus> masks = MasksOfWorkers(runner);
    for (int worker = 0; worker < num_threads; ++worker) {
      EXPECT_EQ(masks[worker], Cpus{places[worker]}) << worker;
    }
    EXPECT_EQ(MaskOfThread().size(), 1u) << "the caller stays bound";
  }
  EXPECT_EQ(MaskOfThread(), all);
  // oneTBB's threads are free again as well.
  ParallelRunner runner(num_threads);
  for (const Cpus& mask : MasksOfWorkers(runner)) EXPECT_EQ(mask, all);
}

TEST(ParallelRunnerTest, ACallerIsFreeWhenAnotherOneCalls) {
  const Cpus all = MaskOfThread();
  if (all.size() < 2) GTEST_SKIP() << "one CPU";
  ParallelRunner runner({2, /*pin=*/true});
  MasksOfWorkers(runner);
  EXPECT_EQ(MaskOfThread().size(), 1u);
  std::thread other([&] {
    MasksOfWorkers(runner);
    EXPECT_EQ(MaskOfThread().size(), 1u);
  });
  other.join();
  EXPECT_EQ(MaskOfThread(), all);
}

TEST(ParallelRunnerTest, WithoutPinMasksAreLeftAlone) {
  const Cpus all = MaskOfThread();
  ParallelRunner runner(3);
  EXPECT_FALSE(runner.is_pinned());
  for (const Cpus& mask : MasksOfWorkers(runner)) EXPECT_EQ(mask, all);
  EXPECT_EQ(MaskOfThread(), all);
}

TEST(ParallelRunnerTest, NothingIsPinnedWhereWorkersWouldShare) {
  const Cpus all = MaskOfThread();
  ParallelRunner many({static_cast<int>(all.size()) + 1, /*pin=*/true});
  EXPECT_FALSE(many.is_pinned());
  for (const Cpus& mask : MasksOfWorkers(many)) EXPECT_EQ(mask, all);
  EXPECT_FALSE(ParallelRunner({1, /*pin=*/true}).is_pinned());
}

TEST(ParallelRunnerDeathTest, NeedsAThread) { EXPECT_DEATH(ParallelRunner(0), "num_threads"); }

}  // namespace
}  // namespace moelight
