// Subscriptions: who wants to hear of changes to which job.
//
// Threads: Add and Remove are thread-safe; Notify belongs to one thread, the writer.
// Owns: the callbacks. They run without the lock held, so they may call Add and Remove.
#ifndef MOELIGHT_SERVER_STORE_SUBSCRIPTIONS_H_
#define MOELIGHT_SERVER_STORE_SUBSCRIPTIONS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <absl/container/flat_hash_map.h>

#include "engine/base/mutex.h"

namespace moelight {

class Subscriptions {
 public:
  // An empty `job_id` stands for every job.
  int64_t Add(const std::string& job_id, std::function<void()> changed);
  // Returns once no call of this subscription is running, unless called from within it.
  void Remove(int64_t id);
  void Notify(const std::vector<std::string>& job_ids);

 private:
  struct Subscription {
    std::string job_id;
    std::shared_ptr<const std::function<void()>> changed;
  };
  void Call(int64_t id);

  Mutex mutex_;
  CondVar call_ended_;
  int64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<int64_t, Subscription> by_id_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, std::set<int64_t>> by_job_ ABSL_GUARDED_BY(mutex_);
  int64_t calling_ ABSL_GUARDED_BY(mutex_) = 0;  // id of the call that is running
  std::thread::id caller_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_SUBSCRIPTIONS_H_
