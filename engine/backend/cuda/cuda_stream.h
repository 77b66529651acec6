// CudaStream: one lane as a stream of the CUDA runtime.
//
// Tasks are pairs of events around what is issued for them; a wait for a task of another stream
// waits on the device, not here. Work of the host runs in order with the rest, on a thread of the
// driver.
//
// Threads: the one that issues ops; the host's work runs on another. A stream dies before its
// backend. Allocates: in the constructor, and when a step has more tasks or more host work under
// way than any before. Errors: of events that cannot be recorded and of the host's work:
// Synchronize() returns the first.
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_STREAM_H_
#define MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_STREAM_H_

#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/backend/cuda/cuda_clock.h"
#include "engine/backend/cuda/upload_ring.h"
#include "engine/base/mutex.h"

namespace moelight {

class CudaStream final : public Stream {
 public:
  // The stream of the gpu lane marks the steps for the clock and the ring. Both must outlive this.
  CudaStream(Lane lane, CudaClock* clock, UploadRing* ring);
  ~CudaStream() override;
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  // The stream behind a Stream of the CUDA backend.
  static cudaStream_t Get(Stream& stream);

  void BeginStep(int num_tasks) override;
  void BeginAhead(int num_tasks) override;
  void EndAhead() override;
  void BeginTask(int task) override;
  void EndTask(int task) override;
  absl::Status WaitFor(const Stream& other, int task) override;
  absl::Status RunOnHost(std::function<absl::Status()> work) override;
  absl::Status Synchronize() override;
  // Zeros for a task that was not issued or has not ended.
  TaskTiming timing(int task) const override;

 private:
  enum class TaskState : uint8_t { kNotIssued, kRunning, kEnded };  // as issued here
  struct TaskRecord {
    TaskState state = TaskState::kNotIssued;
    cudaEvent_t begin = nullptr;
    cudaEvent_t end = nullptr;
  };
  // The tasks of one step. Records, with their events, are kept for later steps.
  struct Bank {
    std::vector<TaskRecord> records;
    int num_tasks = 0;
    CudaClock::Base* base = nullptr;
  };
  struct HostWork {
    CudaStream* stream = nullptr;
    std::function<absl::Status()> work;
    std::atomic<bool> is_free{true};
  };

  static void CUDART_CB RunHostWork(void* host_work);

  void Open(Bank& bank, int num_tasks);
  void Resize(Bank& bank, int num_tasks);
  TaskRecord& record(int task);
  const TaskRecord& current_record(int task) const;
  HostWork& FreeHostWork();
  void KeepError(const absl::Status& status);

  const Lane lane_;
  CudaClock* const clock_;
  UploadRing* const ring_;
  cudaStream_t stream_ = nullptr;

  std::array<Bank, 2> banks_;
  int current_ = 0;         // bank of this step; the other is the next one's
  bool has_ahead_ = false;  // whether the other holds tasks already
  bool is_ahead_ = false;   // whether tasks that begin belong to the next step

  std::deque<HostWork> host_work_;  // a deque, because the driver holds pointers to its elements
  size_t next_host_work_ = 0;       // where the search for a free one begins

  Mutex mutex_;
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_STREAM_H_
