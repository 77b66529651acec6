// CudaClock: one clock for the events of all streams of a backend.
//
// The runtime tells the time between two events as a float of milliseconds, whose step is a
// microsecond after half a minute. So time is counted from base events, of which a new one is
// recorded every step, and the distances between those are added up in double. A base serves only
// once it has happened, so whatever is measured from it is later.
//
// Threads: the one that issues ops. Allocates: in the constructor and AddUser().
#ifndef MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_CLOCK_H_
#define MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_CLOCK_H_

#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

namespace moelight {

class CudaClock {
 public:
  class Base;

  CudaClock();
  ~CudaClock();
  CudaClock(const CudaClock&) = delete;
  CudaClock& operator=(const CudaClock&) = delete;

  // Makes room for one more Acquire() that has not been released.
  void AddUser();
  // The base to measure from for what is issued from now on. Never null; given back by Release().
  Base* Acquire();
  void Release(Base* base);

  // Once per step: the last base recorded becomes the current one, and another is recorded.
  void Advance();

  // When `event` happened, in microseconds since the clock began. 0 if it has not happened.
  double TimeUs(const Base* base, cudaEvent_t event) const;

 private:
  cudaStream_t stream_ = nullptr;  // of the bases alone, so that they wait for no work
  std::vector<std::unique_ptr<Base>> bases_;
  Base* current_ = nullptr;
  Base* pending_ = nullptr;  // recorded, but may not have happened; null if there is none
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CUDA_CUDA_CLOCK_H_
