#include "engine/backend/cuda/cuda_stream.h"

#include <algorithm>
#include <utility>

#include "engine/backend/cuda/cuda_check.h"
#include "engine/base/status_macros.h"

namespace moelight {

CudaStream::CudaStream(Lane lane, CudaClock* clock, UploadRing* ring)
    : lane_(lane), clock_(clock), ring_(ring) {
  int lowest_priority = 0;
  int highest_priority = 0;
  cudaError_t error = cudaDeviceGetStreamPriorityRange(&lowest_priority, &highest_priority);
  CHECK(error == cudaSuccess) << CudaErrorText(error);
  // The kernels of the copy lanes fill what the compute lane leaves free.
  const int priority = lane == Lane::kGpu ? highest_priority : lowest_priority;
  error = cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, priority);
  CHECK(error == cudaSuccess) << CudaErrorText(error);
  for (Bank& bank : banks_) {
    clock_->AddUser();
    bank.base = clock_->Acquire();
  }
}

CudaStream::~CudaStream() {
  (void)cudaStreamSynchronize(stream_);
  for (Bank& bank : banks_) {
    clock_->Release(bank.base);
    for (TaskRecord& record : bank.records) {
      (void)cudaEventDestroy(record.begin);
      (void)cudaEventDestroy(record.end);
    }
  }
  (void)cudaStreamDestroy(stream_);
}

cudaStream_t CudaStream::Get(Stream& stream) {
  auto* cuda_stream = dynamic_cast<CudaStream*>(&stream);
  CHECK(cuda_stream != nullptr) << "ops and streams belong to one backend";
  return cuda_stream->stream_;
}

void CudaStream::Resize(Bank& bank, int num_tasks) {
  while (static_cast<int>(bank.records.size()) < num_tasks) {
    TaskRecord record;
    cudaError_t error = cudaEventCreate(&record.begin);
    if (error == cudaSuccess) error = cudaEventCreate(&record.end);
    CHECK(error == cudaSuccess) << CudaErrorText(error);
    bank.records.push_back(record);
  }
  bank.num_tasks = num_tasks;
}

void CudaStream::Open(Bank& bank, int num_tasks) {
  for (TaskRecord& record : bank.records) record.state = TaskState::kNotIssued;
  Resize(bank, num_tasks);
  clock_->Release(bank.base);
  bank.base = clock_->Acquire();
}

void CudaStream::BeginStep(int num_tasks) {
  if (lane_ == Lane::kGpu) {
    ring_->BeginStep();
    clock_->Advance();
  }
  current_ = 1 - current_;
  if (has_ahead_) {
    Resize(banks_[current_], num_tasks);
  } else {
    Open(banks_[current_], num_tasks);
  }
  has_ahead_ = false;
  is_ahead_ = false;
}

void CudaStream::BeginAhead(int num_tasks) {
  Bank& bank = banks_[1 - current_];
  if (has_ahead_) {
    Resize(bank, num_tasks);
  } else {
    Open(bank, num_tasks);
  }
  has_ahead_ = true;
  is_ahead_ = true;
  if (lane_ == Lane::kGpu) ring_->BeginAhead();
}

void CudaStream::EndAhead() {
  is_ahead_ = false;
  if (lane_ == Lane::kGpu) ring_->EndAhead();
}

CudaStream::TaskRecord& CudaStream::record(int task) {
  Bank& bank = banks_[is_ahead_ ? 1 - current_ : current_];
  CHECK(task >= 0 && task < bank.num_tasks) << "task " << task << " of " << bank.num_tasks;
  return bank.records[task];
}

const CudaStream::TaskRecord& CudaStream::current_record(int task) const {
  const Bank& bank = banks_[current_];
  CHECK(task >= 0 && task < bank.num_tasks) << "task " << task << " of " << bank.num_tasks;
  return bank.records[task];
}

void CudaStream::BeginTask(int task) {
  TaskRecord& begun = record(task);
  CHECK(begun.state == TaskState::kNotIssued) << "task " << task << " began twice";
  begun.state = TaskState::kRunning;
  KeepError(CudaStatus(cudaEventRecord(begun.begin, stream_), "begin a task"));
}

void CudaStream::EndTask(int task) {
  TaskRecord& ended = record(task);
  CHECK(ended.state == TaskState::kRunning) << "task " << task << " is not running";
  ended.state = TaskState::kEnded;
  KeepError(CudaStatus(cudaEventRecord(ended.end, stream_), "end a task"));
}

absl::Status CudaStream::WaitFor(const Stream& other, int task) {
  const auto* stream = dynamic_cast<const CudaStream*>(&other);
  CHECK(stream != nullptr) << "the streams of a step belong to one backend";
  const TaskRecord& awaited = stream->current_record(task);
  CHECK(awaited.state == TaskState::kEnded)
      << "task " << task << " is waited for before it was issued";
  return CudaStatus(cudaStreamWaitEvent(stream_, awaited.end, 0), "wait for a task");
}

CudaStream::HostWork& CudaStream::FreeHostWork() {
  for (size_t i = 0; i < host_work_.size(); ++i) {
    // Work ends in order, so the search most often ends with the first.
    HostWork& item = host_work_[next_host_work_];
    next_host_work_ = (next_host_work_ + 1) % host_work_.size();
    if (item.is_free.load(std::memory_order_acquire)) return item;
  }
  return host_work_.emplace_back();
}

void CUDART_CB CudaStream::RunHostWork(void* host_work) {
  auto* item = static_cast<HostWork*>(host_work);
  const absl::Status status = item->work();
  item->work = nullptr;  // what it holds is released now, not when the slot is used again
  item->stream->KeepError(status);
  item->is_free.store(true, std::memory_order_release);
}

absl::Status CudaStream::RunOnHost(std::function<absl::Status()> work) {
  HostWork& item = FreeHostWork();
  item.stream = this;
  item.work = std::move(work);
  item.is_free.store(false, std::memory_order_relaxed);
  const cudaError_t error = cudaLaunchHostFunc(stream_, &RunHostWork, &item);
  if (error == cudaSuccess) return absl::OkStatus();
  item.work = nullptr;
  item.is_free.store(true, std::memory_order_relaxed);
  return CudaStatus(error, "run on the host");
}

void CudaStream::KeepError(const absl::Status& status) {
  if (status.ok()) return;
  MutexLock lock(&mutex_);
  if (error_.ok()) error_ = status;
}

absl::Status CudaStream::Synchronize() {
  RETURN_IF_ERROR(CudaStatus(cudaStreamSynchronize(stream_),
                             absl::StrCat("run the ", LaneName(lane_), " lane")));
  MutexLock lock(&mutex_);
  return std::exchange(error_, absl::OkStatus());
}

TaskTiming CudaStream::timing(int task) const {
  const TaskRecord& timed = current_record(task);
  if (timed.state != TaskState::kEnded) return {};
  const CudaClock::Base* base = banks_[current_].base;
  return {clock_->TimeUs(base, timed.begin), clock_->TimeUs(base, timed.end)};
}

}  // namespace moelight
