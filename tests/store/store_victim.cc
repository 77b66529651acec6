// A process for crash_test to kill: works on a job store and says on stdout what was acknowledged.
//
//   store_victim work FOLDER       append, run and record until killed; lines "rows N", "seal JOB",
//                                  "result ROW"
//   store_victim wait FOLDER       install the crash marker, say "ready", wait to be killed
//   store_victim SIGNAL FOLDER     install the crash marker, then die of the signal (a number)
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"
#include "server/crash_marker.h"
#include "tests/store/store_test_util.h"

namespace moelight {
namespace {

// One write per line, so that a line is there whole or not at all.
void Say(const std::string& line) {
  const std::string text = line + "\n";
  if (write(STDOUT_FILENO, text.data(), text.size()) < 0) _exit(3);
}

constexpr int64_t kRows = 400;

[[noreturn]] void Work(const std::string& folder) {
  const auto store = OpenStore(folder);
  v1::CreateBatchJobRequest request;
  request.set_request_id("the-job");
  const std::string id = store->Create(request)->job_id();
  v1::BatchJob job = store->Get(id);
  while (job.num_rows() < kRows) {
    const auto outcome = store->Append(id, job.num_rows(), MakeRows(job.num_rows(), 20, 500));
    CHECK(outcome.ok()) << outcome.status();
    Say(absl::StrCat("rows ", outcome->num_rows));
    job = store->Get(id);
  }
  CHECK(store->Seal(id, kRows).ok());
  Say(absl::StrCat("seal ", id));
  while (true) {
    for (const PendingRow& row : store->Take(16)) {
      CHECK(store->Record(id, MakeResult(row.row)).ok());
      Say(absl::StrCat("result ", row.row));
    }
    if (store->Get(id).state() == v1::BatchJob::STATE_SUCCEEDED) _exit(0);
  }
}

}  // namespace
}  // namespace moelight

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  if (std::strcmp(argv[1], "work") == 0) moelight::Work(argv[2]);
  const auto marker = moelight::CrashMarker::Install(argv[2]);
  if (!marker.ok()) return 2;
  if (std::strcmp(argv[1], "wait") == 0) {
    moelight::Say("ready");
    while (true) pause();
  }
  const int signal_number = std::atoi(argv[1]);
  if (signal_number == SIGABRT) std::abort();
  if (signal_number == SIGSEGV) {
    // A real fault, not a sent signal. The compiler must not see where it goes.
    volatile uintptr_t nowhere = 8;
    *reinterpret_cast<volatile int*>(nowhere) = 1;
  }
  raise(signal_number);
  return 2;
}
