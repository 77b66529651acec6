// Goal: every request of a run is submitted once and counted once, however small the engine's queue
// is.
#include "server/bench_load.h"

#include <memory>
#include <thread>

#include <gtest/gtest.h>

#include "tests/testing/fake_engine.h"

namespace moelight {
namespace {

// The fake engine answers with one token per byte of "echo: " and the prompt.
constexpr int64_t kEchoTokens = 6;

TEST(BenchLoadTest, AllRequestsPassASmallQueue) {
  const BenchWorkload& workload = **FindBenchWorkload("mtbench");
  BenchLoad load(workload, 200, nullptr);
  FakeEngine engine({.max_running = 3, .max_queued_requests = 2});
  ASSERT_TRUE(load.Run(engine).ok());
  const BenchLoad::Counts counts = load.counts();
  // A random prompt may begin like one that the fake engine refuses; none of these does.
  EXPECT_EQ(counts.num_succeeded, 200);
  EXPECT_EQ(counts.num_failed, 0);
  EXPECT_EQ(engine.submitted_prompts().size(), 200u);
  int64_t num_prompt_tokens = 0;
  for (const int32_t length : DrawPromptLengths(workload, 200)) num_prompt_tokens += length;
  EXPECT_EQ(counts.num_prompt_tokens, num_prompt_tokens);
  EXPECT_EQ(counts.num_generated_tokens, num_prompt_tokens + 200 * kEchoTokens);
  EXPECT_FALSE(load.is_stopped());
}

TEST(BenchLoadTest, LongestRequestIsKnownBefore) {
  EXPECT_EQ(BenchLoad(**FindBenchWorkload("long"), 5, nullptr).max_request_tokens(), 1024);
  BenchWorkload varied = **FindBenchWorkload("long");
  varied.has_geometric_lengths = true;
  varied.num_shared_prefix_tokens = 100;
  EXPECT_EQ(BenchLoad(varied, 5, nullptr).max_request_tokens(), 100 + 512 + 8 * 512);
}

TEST(BenchLoadTest, StopEndsARunThatWaitsForRoom) {
  BenchLoad load(**FindBenchWorkload("reasoning"), 50, nullptr);
  auto engine = std::make_unique<FakeEngine>(FakeEngineOptions{.max_queued_requests = 4});
  engine->SetPaused(true);
  std::thread stopper([&]() {
    while (engine->Stats().num_queued < 4) std::this_thread::yield();
    load.Stop();
  });
  EXPECT_TRUE(load.Run(*engine).ok());
  stopper.join();
  EXPECT_TRUE(load.is_stopped());
  engine.reset();  // ends what was open
  EXPECT_EQ(load.counts().num_succeeded, 0);
  EXPECT_EQ(load.counts().num_failed, 0);
}

}  // namespace
}  // namespace moelight
