// Measures the daemon around the engine, with real processes on loopback: how fast a large job is
// accepted, how much memory that takes, how quickly GetBatchJob answers while the engine is
// saturated, and how fast results stream back.
//
//   service_bench [ROWS]        default 200000 rows of 1 KiB
//
// Roof of acceptance: what the store's disk takes in sequential writes with one fsync per 8 MiB,
// measured in the same run on the same file system.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"
#include "tests/e2e/daemon_process.h"

namespace moelight {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kRowBytes = 1024;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double ResidentMib(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/statm"));
  int64_t total_pages = 0;
  int64_t resident_pages = 0;
  file >> total_pages >> resident_pages;
  return static_cast<double>(resident_pages * sysconf(_SC_PAGESIZE)) / (1 << 20);
}

double DiskMibPerSecond(const std::string& folder) {
  constexpr int64_t kChunkBytes = 8 << 20;
  constexpr int kNumChunks = 25;
  const std::vector<char> chunk(kChunkBytes, 'x');
  const std::string path = folder + "/disk_probe";
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  CHECK_GE(fd, 0);
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < kNumChunks; ++i) {
    CHECK_EQ(write(fd, chunk.data(), kChunkBytes), kChunkBytes);
    CHECK_EQ(fdatasync(fd), 0);
  }
  const double seconds = SecondsSince(begin);
  close(fd);
  unlink(path.c_str());
  return kNumChunks * kChunkBytes / seconds / (1 << 20);
}

// A chat row of kRowBytes whose prompt is short: the padding is in a field the template ignores, so
// that the run afterwards takes a minute and not an hour.
v1::BatchRequest MakeRow(int64_t number) {
  v1::BatchRequest row;
  row.set_custom_id(absl::StrCat("row-", number));
  v1::ChatMessage* message = row.mutable_prompt()->mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content(absl::StrCat(number % 90, " + ", number % 7, " ="));
  row.mutable_sampling()->set_temperature(0);
  row.mutable_sampling()->set_max_tokens(2);
  const int64_t missing = kRowBytes - static_cast<int64_t>(row.ByteSizeLong()) - 9;
  message->set_name(std::string(missing, 'n'));
  return row;
}

struct Latency {
  double p50_ms = 0;
  double p99_ms = 0;
  double max_ms = 0;
  size_t num_calls = 0;
};

Latency Summarize(std::vector<double> ms) {
  CHECK(!ms.empty());
  std::sort(ms.begin(), ms.end());
  return {ms[ms.size() / 2], ms[ms.size() * 99 / 100], ms.back(), ms.size()};
}

void Accept(client::Client& client, const DaemonProcess& daemon, int64_t num_rows,
            const std::string& job_id) {
  const double disk = DiskMibPerSecond(daemon.folder());
  const double before_mib = ResidentMib(daemon.pid());
  double peak_mib = before_mib;
  int64_t next = 0;
  const Clock::time_point begin = Clock::now();
  const auto appended =
      client.AppendRows(job_id, [&](v1::BatchRequest& row) -> absl::StatusOr<bool> {
        if (next == num_rows) return false;
        if (next % 1000 == 0) peak_mib = std::max(peak_mib, ResidentMib(daemon.pid()));
        row = MakeRow(next++);
        return true;
      });
  CHECK(appended.ok()) << appended.status();
  const double seconds = SecondsSince(begin);
  peak_mib = std::max(peak_mib, ResidentMib(daemon.pid()));
  const double mib_per_s = num_rows * kRowBytes / seconds / (1 << 20);
  std::printf(
      "accept    %8ld rows of %ld B in %6.2f s: %8.0f rows/s, %6.1f MiB/s "
      "(roof: disk %.0f MiB/s, %.0f %%); daemon memory %.1f -> %.1f MiB peak, +%.1f MiB\n",
      num_rows, kRowBytes, seconds, num_rows / seconds, mib_per_s, disk, 100 * mib_per_s / disk,
      before_mib, peak_mib, peak_mib - before_mib);
}

// Polls the job until it has ended, as a dashboard would but without pause.
Latency PollWhileRunning(client::Client& client, const std::string& job_id) {
  std::vector<double> ms;
  while (true) {
    const Clock::time_point begin = Clock::now();
    const auto job = client.Get(job_id);
    CHECK(job.ok()) << job.status();
    if (client::HasEnded(job->state())) break;
    ms.push_back(SecondsSince(begin) * 1e3);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return Summarize(std::move(ms));
}

void StreamBack(client::Client& client, int64_t num_rows, const std::string& job_id) {
  int64_t num_results = 0;
  int64_t bytes = 0;
  const Clock::time_point begin = Clock::now();
  const auto cursor = client.ReadResults(job_id, {}, [&](const v1::ReadBatchResultsResponse& page) {
    num_results += page.results_size();
    bytes += static_cast<int64_t>(page.ByteSizeLong());
    return absl::OkStatus();
  });
  CHECK(cursor.ok()) << cursor.status();
  CHECK_EQ(num_results, num_rows);
  const double seconds = SecondsSince(begin);
  std::printf("results   %8ld rows in %6.2f s: %8.0f rows/s, %6.1f MiB/s\n", num_results, seconds,
              num_results / seconds, bytes / seconds / (1 << 20));
}

void Main(int64_t num_rows) {
  DaemonProcess daemon;
  const double ready_seconds = daemon.Start();
  std::printf("start     ready after %.3f s\n", ready_seconds);
  auto client = daemon.Connect();
  const auto job = client->CreateJob({});
  CHECK(job.ok()) << job.status();
  Accept(*client, daemon, num_rows, job->job_id());
  const Clock::time_point begin = Clock::now();
  CHECK(client->Seal(job->job_id(), num_rows).ok());
  const Latency latency = PollWhileRunning(*client, job->job_id());
  const double seconds = SecondsSince(begin);
  std::printf("run       %8ld rows in %6.2f s: %8.0f rows/s\n", num_rows, seconds,
              num_rows / seconds);
  std::printf("get job   %8zu calls while running: p50 %.2f ms, p99 %.2f ms, max %.2f ms\n",
              latency.num_calls, latency.p50_ms, latency.p99_ms, latency.max_ms);
  StreamBack(*client, num_rows, job->job_id());
}

}  // namespace
}  // namespace moelight

int main(int argc, char** argv) {
  moelight::Main(argc > 1 ? std::atol(argv[1]) : 200'000);
  return 0;
}
