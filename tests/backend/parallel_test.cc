// ParallelRunner covers every index once, on workers it names, with plain memory in between.
#include "engine/base/parallel.h"

#include <numeric>
#include <vector>

#include <gtest/gtest.h>

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

TEST(ParallelRunnerDeathTest, NeedsAThread) { EXPECT_DEATH(ParallelRunner(0), "num_threads"); }

}  // namespace
}  // namespace moelight
