// Mutex, MutexLock and CondVar over the standard library, with Abseil's thread annotations.
//
// Why not absl::Mutex: Debian's Abseil is built without ThreadSanitizer, which then cannot see its
// lock edges and reports races that do not exist. std::mutex is pthread underneath, which it knows.
#ifndef MOELIGHT_ENGINE_BASE_MUTEX_H_
#define MOELIGHT_ENGINE_BASE_MUTEX_H_

#include <chrono>
#include <condition_variable>
#include <mutex>

#include <absl/base/thread_annotations.h>

namespace moelight {

class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }

 private:
  friend class MutexLock;
  std::mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : lock_(mutex->mutex_) {}
  ~MutexLock() ABSL_UNLOCK_FUNCTION() = default;
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  friend class CondVar;
  std::unique_lock<std::mutex> lock_;
};

class CondVar {
 public:
  // Blocks until `predicate` holds; the lock is held while it is evaluated and on return.
  template <typename Predicate>
  void Wait(MutexLock& lock, Predicate predicate) {
    cv_.wait(lock.lock_, predicate);
  }
  // As Wait, but for at most `timeout`; returns the predicate's last value.
  template <typename Predicate>
  bool WaitFor(MutexLock& lock, std::chrono::nanoseconds timeout, Predicate predicate) {
    // wait_until on the system clock, because GCC 12's ThreadSanitizer does not know the
    // pthread_cond_clockwait that the steady clock uses.
    return cv_.wait_until(lock.lock_, std::chrono::system_clock::now() + timeout, predicate);
  }
  void NotifyOne() { cv_.notify_one(); }
  void NotifyAll() { cv_.notify_all(); }

 private:
  std::condition_variable cv_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_MUTEX_H_
