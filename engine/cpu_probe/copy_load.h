// CopyLoad: copies from pinned host memory to a device as fast as the link takes them, while
// something else is measured.
//
// Threads: one caller. Beside() copies on a thread of its own, which sleeps while the device works;
// the backend is that thread's alone meanwhile. It runs where the thread could that called
// Create(), which no runner has bound yet: as a child of a bound caller it would wait for that
// one's CPU. Owns its memory on both sides, taken in Create(). Errors: ResourceExhausted for
// memory, what the device says otherwise.
#ifndef MOELIGHT_ENGINE_CPU_PROBE_COPY_LOAD_H_
#define MOELIGHT_ENGINE_CPU_PROBE_COPY_LOAD_H_

#include <sched.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "engine/backend/backend.h"
#include "engine/memory/arena.h"

namespace moelight {

class CopyLoad {
 public:
  static absl::StatusOr<std::unique_ptr<CopyLoad>> Create(Backend& backend);

  // Bytes per second of copies that go on for `min_seconds`.
  absl::StatusOr<double> Alone(double min_seconds);
  // Runs `work` while copies go on, and returns the bytes per second copied meanwhile.
  absl::StatusOr<double> Beside(const std::function<absl::Status()>& work);

 private:
  using Clock = std::chrono::steady_clock;
  struct Period {
    Clock::time_point begin;
    Clock::time_point end;
  };

  explicit CopyLoad(Backend& backend);
  // One batch of copies, from the first issued to the last ended.
  absl::StatusOr<Period> CopyBatch();

  Backend& backend_;
  cpu_set_t creator_cpus_;
  std::unique_ptr<Arena> host_;
  char* host_data_ = nullptr;
  std::unique_ptr<DeviceBuffer> device_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_CPU_PROBE_COPY_LOAD_H_
