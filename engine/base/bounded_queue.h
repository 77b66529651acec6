// BoundedQueue<T>: a FIFO between threads with a hard capacity.
//
// Threads: any number of producers and consumers. Owns: the queued items. Allocates: per item.
// Errors: a full or closed queue refuses the item and gives it back untouched.
#ifndef MOELIGHT_ENGINE_BASE_BOUNDED_QUEUE_H_
#define MOELIGHT_ENGINE_BASE_BOUNDED_QUEUE_H_

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "engine/base/mutex.h"

namespace moelight {

template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // Never blocks. False if full or closed; `item` is moved from only on success.
  bool TryPush(T&& item) {
    {
      MutexLock lock(&mutex_);
      if (closed_ || items_.size() >= capacity_) return false;
      items_.push_back(std::move(item));
    }
    not_empty_.NotifyOne();
    return true;
  }

  // Blocks until an item is there; nullopt once the queue is closed and empty.
  std::optional<T> Pop() {
    MutexLock lock(&mutex_);
    not_empty_.Wait(lock, [this]() { return closed_ || !items_.empty(); });
    return PopLocked();
  }

  std::optional<T> TryPop() {
    MutexLock lock(&mutex_);
    return PopLocked();
  }

  // No item is accepted afterwards; those queued can still be popped.
  void Close() {
    {
      MutexLock lock(&mutex_);
      closed_ = true;
    }
    not_empty_.NotifyAll();
  }

  size_t size() const {
    MutexLock lock(&mutex_);
    return items_.size();
  }
  size_t capacity() const { return capacity_; }

 private:
  std::optional<T> PopLocked() {
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    return item;
  }

  const size_t capacity_;
  mutable Mutex mutex_;
  CondVar not_empty_;
  std::deque<T> items_;  // guarded by mutex_
  bool closed_ = false;  // guarded by mutex_
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BASE_BOUNDED_QUEUE_H_
