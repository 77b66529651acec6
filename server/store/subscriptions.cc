#include "server/store/subscriptions.h"

#include <utility>

namespace moelight {

int64_t Subscriptions::Add(const std::string& job_id, std::function<void()> changed) {
  auto shared = std::make_shared<const std::function<void()>>(std::move(changed));
  MutexLock lock(&mutex_);
  const int64_t id = next_id_++;
  by_id_[id] = {job_id, std::move(shared)};
  by_job_[job_id].insert(id);
  return id;
}

void Subscriptions::Remove(int64_t id) {
  MutexLock lock(&mutex_);
  const auto found = by_id_.find(id);
  if (found != by_id_.end()) {
    const auto of_job = by_job_.find(found->second.job_id);
    of_job->second.erase(id);
    if (of_job->second.empty()) by_job_.erase(of_job);
    by_id_.erase(found);
  }
  if (caller_ == std::this_thread::get_id()) return;
  call_ended_.Wait(lock, [this, id]() { return calling_ != id; });
}

void Subscriptions::Notify(const std::vector<std::string>& job_ids) {
  std::vector<int64_t> ids;
  {
    MutexLock lock(&mutex_);
    caller_ = std::this_thread::get_id();
    const auto collect = [this, &ids](const std::string& job_id) {
      const auto found = by_job_.find(job_id);
      if (found != by_job_.end()) ids.insert(ids.end(), found->second.begin(), found->second.end());
    };
    if (!job_ids.empty()) collect("");
    for (const std::string& job_id : job_ids) collect(job_id);
  }
  for (const int64_t id : ids) Call(id);
}

void Subscriptions::Call(int64_t id) {
  std::shared_ptr<const std::function<void()>> changed;
  {
    MutexLock lock(&mutex_);
    const auto found = by_id_.find(id);
    if (found == by_id_.end()) return;
    changed = found->second.changed;
    calling_ = id;
  }
  (*changed)();
  changed.reset();  // what the callback holds goes before Remove() returns
  {
    MutexLock lock(&mutex_);
    calling_ = 0;
  }
  call_ended_.NotifyAll();
}

}  // namespace moelight
