#include "engine/backend/cuda/cuda_clock.h"

#include "engine/backend/cuda/cuda_check.h"
#include "engine/base/check.h"

namespace moelight {

class CudaClock::Base {
 public:
  Base() {
    const cudaError_t error = cudaEventCreate(&event);
    CHECK(error == cudaSuccess) << CudaErrorText(error);
  }
  ~Base() { (void)cudaEventDestroy(event); }
  Base(const Base&) = delete;
  Base& operator=(const Base&) = delete;

  cudaEvent_t event = nullptr;
  double time_us = 0;
  int num_users = 0;
};

CudaClock::CudaClock() {
  cudaError_t error = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
  CHECK(error == cudaSuccess) << CudaErrorText(error);
  // The current base and the pending one.
  for (int i = 0; i < 2; ++i) bases_.push_back(std::make_unique<Base>());
  current_ = bases_.front().get();
  error = cudaEventRecord(current_->event, stream_);
  if (error == cudaSuccess) error = cudaEventSynchronize(current_->event);
  CHECK(error == cudaSuccess) << CudaErrorText(error);
}

CudaClock::~CudaClock() {
  (void)cudaStreamSynchronize(stream_);
  (void)cudaStreamDestroy(stream_);
}

void CudaClock::AddUser() { bases_.push_back(std::make_unique<Base>()); }

CudaClock::Base* CudaClock::Acquire() {
  ++current_->num_users;
  return current_;
}

void CudaClock::Release(Base* base) {
  CHECK_GT(base->num_users, 0);
  --base->num_users;
}

void CudaClock::Advance() {
  if (pending_ != nullptr) {
    float distance_ms = 0;
    if (cudaEventElapsedTime(&distance_ms, current_->event, pending_->event) != cudaSuccess) {
      (void)cudaGetLastError();  // not happened yet; the current base stays
      return;
    }
    pending_->time_us = current_->time_us + 1e3 * distance_ms;
    current_ = pending_;
    pending_ = nullptr;
  }
  for (const auto& base : bases_) {
    if (base.get() == current_ || base->num_users > 0) continue;
    // An error is one of the device, which the streams report.
    if (cudaEventRecord(base->event, stream_) == cudaSuccess) pending_ = base.get();
    return;
  }
}

double CudaClock::TimeUs(const Base* base, cudaEvent_t event) const {
  float distance_ms = 0;
  if (cudaEventElapsedTime(&distance_ms, base->event, event) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return base->time_us + 1e3 * distance_ms;
}

}  // namespace moelight
