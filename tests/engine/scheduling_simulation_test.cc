// Goal: what the scheduler promises over whole jobs, in virtual time: clients get their shares and
// none starves, pages stay in use whatever lengths are, a shared beginning is computed once.
#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "tests/testing/test_profiles.h"

namespace moelight {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

EngineOptions Options(int32_t max_running) {
  EngineOptions options;
  options.model = std::string(MOELIGHT_SOURCE_DIR "/tests/data/configs/mixtral-8x7b");
  options.hardware = std::make_shared<HardwareProfile>(LargeGpuProfile());
  options.device = Engine::kSimulatedDevice;
  options.gpu_memory_bytes = 15 * kGiB;
  options.host_memory_bytes = 60 * kGiB;
  options.max_model_len = 2048;
  options.policy = "manual";
  options.max_running_sequences = max_running;
  options.max_step_tokens = max_running + 4096;
  options.num_micro_batches = 2;
  options.num_hidden_layers = 2;
  return options;
}

void AddRequests(const std::string& client, double weight, int count, int32_t num_output_tokens,
                 int64_t arrives_at_step, std::vector<SimulatedRequest>* requests) {
  for (int i = 0; i < count; ++i) {
    SimulatedRequest request = {20 + i % 60, num_output_tokens};
    request.group.client = client;
    request.group.client_weight = weight;
    request.arrives_at_step = arrives_at_step;
    requests->push_back(request);
  }
}

int64_t NumEndedBy(const SimulatedRun& run, size_t begin, size_t end, int64_t step) {
  return std::count_if(run.end_steps.begin() + begin, run.end_steps.begin() + end,
                       [step](int64_t end_step) { return end_step <= step; });
}

// One client's flood, and another that comes later with little: what the first gets until the
// second is done is no more than the second's work by weight, what runs already, and one request.
TEST(FairShareTest, ALateClientIsServedByItsWeightWhateverWaits) {
  constexpr int32_t kRunning = 32;
  for (const double weight : {1.0, 3.0}) {
    std::vector<SimulatedRequest> requests;
    AddRequests("flood", 1, 1000, 40, 0, &requests);
    AddRequests("late", weight, 120, 40, 60, &requests);
    const absl::StatusOr<SimulatedRun> run = Engine::Simulate(Options(kRunning), requests);
    ASSERT_TRUE(run.ok()) << run.status();
    const int64_t late_end = *std::max_element(run->end_steps.begin() + 1000, run->end_steps.end());
    const int64_t flood_meanwhile =
        NumEndedBy(*run, 0, 1000, late_end) - NumEndedBy(*run, 0, 1000, 60);
    EXPECT_LE(flood_meanwhile, 120 / weight + 2 * kRunning) << "weight " << weight;
    EXPECT_GE(flood_meanwhile, 120 / weight - 2 * kRunning) << "weight " << weight;
  }
}

// Many clients, of which each has the same work: at no time is one behind another by more than what
// runs at once, as long as both have work.
TEST(FairShareTest, NoClientFallsBehind) {
  constexpr int kNumClients = 12;
  constexpr int kNumEach = 60;
  constexpr int32_t kRunning = 24;
  std::vector<SimulatedRequest> requests;
  for (int i = 0; i < kNumClients; ++i) {
    AddRequests("client" + std::to_string(i), 1, kNumEach, 30, 0, &requests);
  }
  const absl::StatusOr<SimulatedRun> run = Engine::Simulate(Options(kRunning), requests);
  ASSERT_TRUE(run.ok()) << run.status();
  for (int64_t step = 0; step < run->num_steps; ++step) {
    int64_t least = kNumEach;
    int64_t most = 0;
    for (int i = 0; i < kNumClients; ++i) {
      const int64_t ended = NumEndedBy(*run, i * kNumEach, (i + 1) * kNumEach, step);
      least = std::min(least, ended);
      most = std::max(most, ended);
    }
    ASSERT_LE(most - least, kRunning / kNumClients + 3) << "step " << step;
  }
}

// A bug once: who came right after an interactive request began at that client's small account and
// shut the others out until it had caught up with all that they had ever had.
TEST(FairShareTest, ATrickleOfInteractiveRequestsGivesNobodyAClaimOnThePast) {
  for (const int64_t late_step : {401, 410, 419, 430}) {
    std::vector<SimulatedRequest> requests;
    AddRequests("flood", 1, 1000, 40, 0, &requests);
    AddRequests("late", 1, 120, 40, late_step, &requests);
    for (int64_t step = 0; step < 1200; step += 3) {
      AddRequests("", 1, 1, 6, step, &requests);
      requests.back().group.priority = kInteractivePriority;
    }
    const absl::StatusOr<SimulatedRun> run = Engine::Simulate(Options(16), requests);
    ASSERT_TRUE(run.ok()) << run.status();
    const auto late = run->end_steps.begin() + 1000;
    const int64_t late_end = *std::max_element(late, late + 120);
    const int64_t flood_meanwhile =
        NumEndedBy(*run, 0, 1000, late_end) - NumEndedBy(*run, 0, 1000, late_step);
    EXPECT_GE(flood_meanwhile, 120 - 2 * 16) << "from step " << late_step;
  }
}

TEST(FairShareTest, HigherPriorityPassesAllThatWaits) {
  std::vector<SimulatedRequest> requests;
  AddRequests("a", 1, 400, 40, 0, &requests);
  AddRequests("b", 1, 50, 40, 20, &requests);
  for (size_t i = 400; i < requests.size(); ++i) requests[i].group.priority = 1;
  const absl::StatusOr<SimulatedRun> run = Engine::Simulate(Options(16), requests);
  ASSERT_TRUE(run.ok()) << run.status();
  const int64_t urgent_end = *std::max_element(run->end_steps.begin() + 400, run->end_steps.end());
  // What ran when they came, and no other.
  EXPECT_LE(NumEndedBy(*run, 0, 400, urgent_end), 16 + 16);
}

// Lengths of which nothing is known but that they have a limit, eight times the mean.
TEST(PagesTest, StayInUseWhenAnswersEndByChance) {
  std::mt19937 random(7);
  std::geometric_distribution<int32_t> length(1.0 / 128);
  EngineOptions options = Options(3000);
  options.max_step_tokens = 16384;
  options.num_hidden_layers = 8;
  options.host_memory_bytes = 24 * kGiB;
  std::vector<SimulatedRequest> requests;
  AddRequests("", 1, 6000, 1, 0, &requests);
  for (SimulatedRequest& request : requests) {
    request.num_prompt_tokens = 300 + static_cast<int32_t>(random() % 75);
    request.max_output_tokens = 1024;
    request.num_output_tokens = std::min(1024, 1 + length(random));
    request.group.job = "job";
  }
  const absl::StatusOr<SimulatedRun> run = Engine::Simulate(options, requests);
  ASSERT_TRUE(run.ok()) << run.status();
  int64_t num_steps = 0;
  double used = 0;
  int64_t num_generated = 0;
  for (size_t i = 0; i < run->steps.size(); ++i) {
    num_generated += run->steps[i].num_generated_tokens;
    // After the ramp, and before the last rows have been admitted.
    if (i < 100 || num_generated > run->num_generated_tokens * 6 / 10) continue;
    used += static_cast<double>(run->steps[i].num_kv_pages_used);
    ++num_steps;
  }
  ASSERT_GT(num_steps, 50);
  EXPECT_LT(run->peak_sequences, 2900) << "pages are to be the limit";
  EXPECT_GE(used / static_cast<double>(num_steps * run->num_kv_pages), 0.95);
  EXPECT_LE(run->num_recomputed_tokens, (run->num_generated_tokens + run->num_prompt_tokens) / 20);
}

TEST(PagesTest, StaggeringKeepsMoreSequencesThanReservations) {
  std::vector<SimulatedRequest> requests;
  AddRequests("", 1, 4000, 512, 0, &requests);
  EngineOptions options = Options(2000);
  options.max_step_tokens = 16384;
  options.num_hidden_layers = 8;
  options.host_memory_bytes = 24 * kGiB;
  const absl::StatusOr<SimulatedRun> paged = Engine::Simulate(options, requests);
  options.admission = "reserved";
  const absl::StatusOr<SimulatedRun> reserved = Engine::Simulate(options, requests);
  ASSERT_TRUE(paged.ok() && reserved.ok()) << paged.status() << reserved.status();
  EXPECT_EQ(reserved->num_preempted_sequences, 0);
  EXPECT_GT(paged->num_preempted_sequences, 0);
  EXPECT_LT(paged->num_steps, 0.87 * reserved->num_steps);
  EXPECT_LE(paged->num_recomputed_tokens,
            0.3 * (paged->num_generated_tokens + paged->num_prompt_tokens));
}

// They start together, and would end together wave after wave.
TEST(PagesTest, StayInUseWhenAnswersAreOfOneLength) {
  std::vector<SimulatedRequest> requests;
  AddRequests("", 1, 6000, 64, 0, &requests);
  EngineOptions options = Options(2000);
  options.gpu_memory_bytes = 5 * kGiB;
  options.host_memory_bytes = int64_t{6100} << 20;
  const absl::StatusOr<SimulatedRun> run = Engine::Simulate(options, requests);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_LT(run->peak_sequences, 2000) << "pages are to be the limit";
  double used = 0;
  double least = 1;
  int64_t num_steps = 0;
  int64_t num_generated = 0;
  for (const SimulatedStep& step : run->steps) {
    num_generated += step.num_generated_tokens;
    // After the ramp, and before the last rows have been admitted.
    if (num_generated < run->num_generated_tokens / 6) continue;
    if (num_generated > run->num_generated_tokens * 6 / 10) break;
    const double share =
        static_cast<double>(step.num_kv_pages_used) / static_cast<double>(run->num_kv_pages);
    used += share;
    least = std::min(least, share);
    ++num_steps;
  }
  ASSERT_GT(num_steps, 50);
  EXPECT_GE(used / static_cast<double>(num_steps), 0.95);
  EXPECT_GE(least, 0.8);
  EXPECT_LE(run->num_recomputed_tokens, (run->num_generated_tokens + run->num_prompt_tokens) / 5);
}

TEST(SharedPrefixTest, IsComputedOnceForTheWholeJob) {
  std::vector<SimulatedRequest> requests;
  AddRequests("", 1, 500, 8, 0, &requests);
  for (SimulatedRequest& request : requests) {
    request.num_prompt_tokens += 1000;
    request.num_shared_prompt_tokens = 1000;
    request.group.job = "job";
  }
  const absl::StatusOr<SimulatedRun> run = Engine::Simulate(Options(200), requests);
  ASSERT_TRUE(run.ok()) << run.status();
  // 62 full pages of 16 tokens are shared by all but the first.
  EXPECT_EQ(run->num_shared_prompt_tokens, 499 * 62 * 16);
  int64_t num_prompt_tokens = 0;
  for (const SimulatedRequest& request : requests) num_prompt_tokens += request.num_prompt_tokens;
  EXPECT_EQ(run->num_prompt_tokens, num_prompt_tokens - run->num_shared_prompt_tokens);
}

}  // namespace
}  // namespace moelight
