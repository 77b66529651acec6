// Prints what the job store takes per second beside what the disk under it can do.
//
//   store_bench [FOLDER]   FOLDER is where the store is made; default: the temporary folder
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <future>
#include <string>
#include <vector>

#include "engine/base/check.h"
#include "engine/base/mutex.h"
#include "tests/store/store_test_util.h"

namespace moelight {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kRows = 200'000;
constexpr int64_t kRowBytes = 1024;
constexpr int64_t kRowsPerAppend = 512;
constexpr int64_t kAppendsInFlight = 4;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double ResidentMiB() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  file >> total >> resident;
  return static_cast<double>(resident * sysconf(_SC_PAGESIZE)) / (1 << 20);
}

// Appends of 4 KiB followed by fdatasync, as a commit of the smallest kind does.
double RawSyncsPerSecond(const std::string& folder) {
  const std::string path = folder + "/raw";
  const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  CHECK(fd >= 0) << path;
  const std::string page(4096, 'x');
  constexpr int kSyncs = 200;
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < kSyncs; ++i) {
    CHECK_EQ(pwrite(fd, page.data(), page.size(), i * 4096), 4096);
    CHECK_EQ(fdatasync(fd), 0);
  }
  const double seconds = SecondsSince(start);
  close(fd);
  unlink(path.c_str());
  return kSyncs / seconds;
}

// Lets at most `capacity` operations be under way.
class Window {
 public:
  explicit Window(int64_t capacity) : free_(capacity), capacity_(capacity) {}
  void Enter() {
    MutexLock lock(&mutex_);
    left_.Wait(lock, [this]() { return free_ > 0; });
    --free_;
  }
  void Leave() {
    {
      MutexLock lock(&mutex_);
      ++free_;
    }
    left_.NotifyAll();
  }
  void WaitUntilEmpty() {
    MutexLock lock(&mutex_);
    left_.Wait(lock, [this]() { return free_ == capacity_; });
  }

 private:
  Mutex mutex_;
  CondVar left_;
  int64_t free_ ABSL_GUARDED_BY(mutex_);
  const int64_t capacity_;
};

void Report(const char* what, int64_t count, double seconds) {
  std::printf("%-28s %8.0f /s   (%lld in %.2f s, RSS %.0f MiB)\n", what,
              static_cast<double>(count) / seconds, static_cast<long long>(count), seconds,
              ResidentMiB());
}

void Append(SyncStore& store, const std::string& id) {
  Window window(kAppendsInFlight);
  for (int64_t row = 0; row < kRows; row += kRowsPerAppend) {
    const int64_t count = std::min(kRowsPerAppend, kRows - row);
    window.Enter();
    store.store().Append(id, row, MakeRows(row, count, kRowBytes), [&window](const auto& outcome) {
      CHECK(outcome.ok()) << outcome.status();
      window.Leave();
    });
  }
  window.WaitUntilEmpty();
}

void RunRows(SyncStore& store, const std::string& id) {
  Window window(1024);
  for (std::vector<PendingRow> rows = store.Take(1024); !rows.empty(); rows = store.Take(1024)) {
    for (const PendingRow& row : rows) {
      window.Enter();
      store.store().RecordResult(id, MakeResult(row.row), [&window](const absl::Status& status) {
        CHECK(status.ok()) << status;
        window.Leave();
      });
    }
  }
  window.WaitUntilEmpty();
}

void ReadResults(SyncStore& store, const std::string& id) {
  int64_t cursor = 0;
  while (cursor < kRows) {
    const absl::StatusOr<ResultsPage> page = store.Read(id, cursor);
    CHECK(page.ok()) << page.status();
    cursor = page->next_cursor;
  }
}

void Main(const std::string& folder) {
  std::printf("raw 4 KiB append + fdatasync %8.0f /s\n", RawSyncsPerSecond(folder));
  auto store = OpenStore(folder + "/store");
  const double before = ResidentMiB();
  const std::string id = store->CreateJob();

  Clock::time_point start = Clock::now();
  Append(*store, id);
  Report("rows of 1 KiB appended", kRows, SecondsSince(start));
  std::printf("%-28s %8.1f MiB\n", "memory grew by", ResidentMiB() - before);
  CHECK(store->Seal(id).ok());

  store.reset();
  start = Clock::now();
  store = OpenStore(folder + "/store");
  std::printf("%-28s %8.3f s\n", "opened again in", SecondsSince(start));

  start = Clock::now();
  RunRows(*store, id);
  Report("rows handed out, recorded", kRows, SecondsSince(start));
  start = Clock::now();
  ReadResults(*store, id);
  Report("results read", kRows, SecondsSince(start));
}

}  // namespace
}  // namespace moelight

int main(int argc, char** argv) {
  if (argc > 1) {
    moelight::Main(argv[1]);
  } else {
    const moelight::TempFolder folder;
    moelight::Main(folder.path());
  }
  return 0;
}
