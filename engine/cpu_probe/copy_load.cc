#include "engine/cpu_probe/copy_load.h"

#include <algorithm>
#include <atomic>
#include <latch>
#include <thread>
#include <utility>
#include <vector>

#include "engine/backend/byte_view.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// As weight pages by default; copies of this size run at nearly the full rate of any link.
constexpr int64_t kCopyBytes = int64_t{16} << 20;
// Of a batch: 256 MiB, 5 ms at 50 GB/s, beside which the 20 us of waiting for its end are nothing;
// and, as the source is as large, more than what a cache keeps until the next batch.
constexpr int64_t kBatchCopies = 16;
// Making and pinning pages is the system's work; more threads than this only wait for each other.
constexpr int kPinThreads = 4;

double Seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

CopyLoad::CopyLoad(Backend& backend) : backend_(backend) {
  CPU_ZERO(&creator_cpus_);
  (void)sched_getaffinity(0, sizeof(creator_cpus_), &creator_cpus_);
}

absl::StatusOr<std::unique_ptr<CopyLoad>> CopyLoad::Create(Backend& backend) {
  auto load = std::unique_ptr<CopyLoad>(new CopyLoad(backend));
  ASSIGN_OR_RETURN(load->host_, Arena::Create("copy_load", kBatchCopies * kCopyBytes));
  load->host_data_ = static_cast<char*>(load->host_->Allocate(kBatchCopies * kCopyBytes));
  RETURN_IF_ERROR(load->host_->Pin(backend, kPinThreads));
  ASSIGN_OR_RETURN(load->device_, backend.AllocateDevice("copy_load", kCopyBytes));
  load->stream_ = backend.CreateStream(Lane::kHostToDevice);
  // The first batch pays for what is set up on first use.
  RETURN_IF_ERROR(load->CopyBatch().status());
  return load;
}

absl::StatusOr<CopyLoad::Period> CopyLoad::CopyBatch() {
  Period period;
  period.begin = Clock::now();
  for (int64_t i = 0; i < kBatchCopies; ++i) {
    RETURN_IF_ERROR(backend_.Copy(ByteView(host_data_ + i * kCopyBytes, kCopyBytes),
                                  ByteView(device_->data(), kCopyBytes), *stream_));
  }
  RETURN_IF_ERROR(stream_->Synchronize());
  period.end = Clock::now();
  return period;
}

absl::StatusOr<double> CopyLoad::Alone(double min_seconds) {
  const Clock::time_point begin = Clock::now();
  int64_t num_batches = 0;
  Period last;
  do {
    ASSIGN_OR_RETURN(last, CopyBatch());
    ++num_batches;
  } while (Seconds(last.end - begin) < min_seconds);
  return static_cast<double>(num_batches * kBatchCopies * kCopyBytes) / Seconds(last.end - begin);
}

absl::StatusOr<double> CopyLoad::Beside(const std::function<absl::Status()>& work) {
  std::atomic<bool> stop = false;
  std::latch copying(1);
  absl::Status copy_status;
  std::vector<Period> batches;
  std::thread copier([&] {
    // Refused for an empty set: then it stays where it is.
    (void)sched_setaffinity(0, sizeof(creator_cpus_), &creator_cpus_);
    // A first batch, after which they follow each other without a pause.
    copy_status = CopyBatch().status();
    copying.count_down();
    while (copy_status.ok() && !stop.load(std::memory_order_relaxed)) {
      const absl::StatusOr<Period> batch = CopyBatch();
      copy_status = batch.status();
      if (batch.ok()) batches.push_back(*batch);
    }
  });
  copying.wait();
  const Clock::time_point begin = Clock::now();
  const absl::Status work_status = work();
  const Clock::time_point end = Clock::now();
  stop.store(true, std::memory_order_relaxed);
  copier.join();
  RETURN_IF_ERROR(work_status);
  RETURN_IF_ERROR(copy_status);
  // Of batches that began before the work or ended after it, their part.
  double num_batches = 0;
  for (const Period& batch : batches) {
    const auto inside = std::min(batch.end, end) - std::max(batch.begin, begin);
    num_batches += std::max(0.0, Seconds(inside)) / Seconds(batch.end - batch.begin);
  }
  return num_batches * static_cast<double>(kBatchCopies * kCopyBytes) / Seconds(end - begin);
}

}  // namespace moelight
