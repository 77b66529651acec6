// Measures the engine on the demo model without RPC or store: generated tokens per second over the
// whole run and in steady state (from the first to the last step with a full batch), beside the
// roof of the same cores measured in the same run.
//
//   throughput_bench [ROWS [BATCH [THREADS]]]     default 400 256 2
//
// Two workloads: `fixed` gives every row 128 tokens (end of sequence ignored), `answers` stops
// where the model stops, so that prompts take most of the work and places change hands all the
// time.
//
// Roof: one token costs 2 FLOP per active parameter; the roof is what the cores' peak multiply-add
// loop would give. Attention is left out, so the roof is a little too high.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "engine/backend/cpu/isa.h"
#include "engine/base/check.h"
#include "engine/base/mutex.h"
#include "engine/engine.h"

namespace moelight {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

// Adds up steps. All calls come from the engine thread while a run lasts.
class Recorder : public EngineObserver {
 public:
  explicit Recorder(int32_t batch) : batch_(batch) {}

  void OnStep(const StepStats& stats) override {
    const Clock::time_point now = Clock::now();
    MutexLock lock(&mutex_);
    num_tokens_ += stats.num_sequences;
    num_prompt_tokens_ += stats.num_prefill_tokens;
    step_us_ += stats.step_us;
    for (Lane lane : kAllLanes) {
      busy_us_[static_cast<int>(lane)] += stats.lane_busy_us[static_cast<int>(lane)];
    }
    ++num_steps_;
    if (stats.num_sequences < batch_) return;
    if (num_full_steps_++ == 0) {
      full_begin_ = now;
    } else {
      num_full_tokens_ += num_tokens_ - num_tokens_at_full_;
    }
    num_tokens_at_full_ = num_tokens_;
    full_end_ = now;
  }
  void OnRequestFinished(const GenerateResult& result, const RequestStats&) override {
    CHECK(result.status.ok()) << result.status;
  }

  void Print(const char* workload, double seconds, double roof_tokens_per_s) {
    MutexLock lock(&mutex_);
    const double whole = num_tokens_ / seconds;
    const double steady =
        num_full_steps_ > 1 ? num_full_tokens_ / Seconds(full_begin_, full_end_) : 0;
    std::printf("%-8s %7ld generated %7ld prompt tokens, %5ld steps (%ld full) in %6.3f s\n",
                workload, num_tokens_, num_prompt_tokens_, num_steps_, num_full_steps_, seconds);
    std::printf(
        "         whole run %8.0f tok/s   steady state %8.0f tok/s   %4.1f %% of the roof of "
        "%.0f tok/s\n",
        whole, steady, 100 * steady / roof_tokens_per_s, roof_tokens_per_s);
    std::printf(
        "         steps %.1f %% of the time; of them gpu %.1f %%, cpu %.1f %%, h2d %.1f %%, "
        "d2h %.1f %%\n",
        step_us_ / seconds / 1e4, 100 * busy_us_[0] / step_us_, 100 * busy_us_[1] / step_us_,
        100 * busy_us_[2] / step_us_, 100 * busy_us_[3] / step_us_);
  }

 private:
  const int32_t batch_;
  Mutex mutex_;
  int64_t num_tokens_ = 0;
  int64_t num_prompt_tokens_ = 0;
  int64_t num_steps_ = 0;
  int64_t num_full_steps_ = 0;
  int64_t num_full_tokens_ = 0;
  int64_t num_tokens_at_full_ = 0;
  double step_us_ = 0;
  double busy_us_[kNumLanes] = {};
  Clock::time_point full_begin_;
  Clock::time_point full_end_;
};

// Counts finished requests down.
class Countdown : public TokenSink {
 public:
  explicit Countdown(int64_t count) : left_(count) {}
  void OnDelta(TokenDelta) override {}
  void OnFinish(GenerateResult) override {
    MutexLock lock(&mutex_);
    --left_;
    changed_.NotifyAll();
  }
  void Wait() {
    MutexLock lock(&mutex_);
    changed_.Wait(lock, [this]() { return left_ == 0; });
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int64_t left_;
};

std::vector<GenerateRequest> MakeRequests(int64_t num_rows, bool fixed_length) {
  std::vector<GenerateRequest> requests;
  std::vector<std::string> questions;
  std::ifstream file(absl::StrCat(MOELIGHT_SOURCE_DIR, "/tests/data/demo/eval.jsonl"));
  for (std::string line; std::getline(file, line);) {
    questions.push_back(nlohmann::json::parse(line)["user"]);
  }
  for (int64_t i = 0; i < num_rows; ++i) {
    ChatPrompt chat;
    chat.messages.emplace_back();
    chat.messages.back().role = "user";
    chat.messages.back().content = questions[i % questions.size()];
    GenerateRequest request;
    request.input = std::move(chat);
    request.sampling.temperature = 0;
    request.sampling.max_tokens = 128;
    request.sampling.ignore_eos = fixed_length;
    requests.push_back(std::move(request));
  }
  return requests;
}

void RunWorkload(const char* name, bool fixed_length, int64_t num_rows, int32_t batch,
                 int32_t threads, double peak_gflops) {
  EngineOptions options;
  options.model = absl::StrCat(MOELIGHT_SOURCE_DIR, "/deploy/demo/model");
  options.device = "cpu";
  options.max_running_sequences = batch;
  options.max_queued_requests = 2 * static_cast<int32_t>(num_rows);
  options.cpu_threads = threads;
  options.host_memory_bytes = int64_t{2} << 30;
  Recorder recorder(batch);
  auto engine = Engine::Create(options, Logger::Null(), &recorder);
  CHECK(engine.ok()) << engine.status();
  const double roof = peak_gflops * 1e9 / (2.0 * (*engine)->model().num_active_parameters);

  std::vector<GenerateRequest> requests = MakeRequests(num_rows, fixed_length);
  Countdown countdown(num_rows);
  const Clock::time_point begin = Clock::now();
  for (GenerateRequest& request : requests) {
    CHECK((*engine)->Submit(std::move(request), &countdown).ok());
  }
  countdown.Wait();
  recorder.Print(name, Seconds(begin, Clock::now()), roof);
}

// All threads at once, as the engine uses them. The best of a few turns.
double PeakGflops(const CpuIsa& isa, int32_t threads) {
  double best = 0;
  for (int turn = 0; turn < 5; ++turn) {
    std::vector<int64_t> flops(threads);
    std::vector<std::thread> workers;
    const Clock::time_point begin = Clock::now();
    for (int32_t i = 0; i < threads; ++i) {
      workers.emplace_back([&flops, &isa, i]() { flops[i] = isa.kernels->peak_flops(20'000'000); });
    }
    for (std::thread& worker : workers) worker.join();
    const double seconds = Seconds(begin, Clock::now());
    best = std::max(best, std::accumulate(flops.begin(), flops.end(), int64_t{0}) / seconds / 1e9);
  }
  return best;
}

void Main(int64_t num_rows, int32_t batch, int32_t threads) {
  const absl::StatusOr<const CpuIsa*> isa = ChooseCpuIsa("");
  CHECK(isa.ok()) << isa.status();
  const double peak_gflops = PeakGflops(**isa, threads);
  std::printf("demo model, %ld rows, batch %d, %d threads; peak loop %.0f GFLOP/s (%s)\n", num_rows,
              batch, threads, peak_gflops, std::string((*isa)->name).c_str());
  RunWorkload("fixed", true, num_rows, batch, threads, peak_gflops);
  RunWorkload("answers", false, num_rows, batch, threads, peak_gflops);
}

}  // namespace
}  // namespace moelight

int main(int argc, char** argv) {
  moelight::Main(argc > 1 ? std::atol(argv[1]) : 400, argc > 2 ? std::atoi(argv[2]) : 256,
                 argc > 3 ? std::atoi(argv[3]) : 2);
  return 0;
}
