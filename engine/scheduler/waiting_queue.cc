#include "engine/scheduler/waiting_queue.h"

#include <algorithm>
#include <utility>

#include "engine/base/check.h"

namespace moelight {

WaitingQueue::ClientQueue& WaitingQueue::QueueOf(const Sequence& sequence) {
  ++size_;
  return levels_[sequence.group.priority][sequence.group.client];
}

void WaitingQueue::Add(Sequence* sequence) {
  Account& account = accounts_[sequence->group.priority];
  Client& client = account.clients[sequence->group.client];
  if (client.num_sequences++ == 0) client.charged = account.virtual_time;
  QueueOf(*sequence).fresh.push_back(sequence);
}

void WaitingQueue::PutBack(Sequence* sequence) {
  CHECK_GT(sequence->rank, 0);
  QueueOf(*sequence).put_back.emplace(sequence->rank, sequence);
}

bool WaitingQueue::IsPassedOver(int32_t priority, const std::string& client) const {
  return std::find(passed_over_.begin(), passed_over_.end(), std::make_pair(priority, client)) !=
         passed_over_.end();
}

const WaitingQueue::Level::value_type* WaitingQueue::FrontQueue() const {
  for (const auto& [priority, level] : levels_) {
    const Level::value_type* best = nullptr;
    double least = 0;
    for (const auto& queue : level) {
      if (IsPassedOver(priority, queue.first)) continue;
      const double charged = accounts_.at(priority).clients.at(queue.first).charged;
      if (best != nullptr && charged >= least) continue;
      best = &queue;
      least = charged;
    }
    if (best != nullptr) return best;
  }
  return nullptr;
}

Sequence* WaitingQueue::Front() const {
  const auto* const queue = FrontQueue();
  return queue == nullptr ? nullptr : queue->second.front(prefer_new_);
}

void WaitingQueue::PassOver(const Sequence& front) {
  passed_over_.emplace_back(front.group.priority, front.group.client);
}

void WaitingQueue::PopFront(double expected_tokens) {
  Sequence* const sequence = Front();
  CHECK(sequence != nullptr);
  if (sequence->charged_tokens == 0) {
    Account& account = accounts_.at(sequence->group.priority);
    Client& client = account.clients.at(sequence->group.client);
    account.virtual_time = std::max(account.virtual_time, client.charged);
    sequence->charged_tokens = expected_tokens;
    client.charged += expected_tokens / sequence->group.client_weight;
  }
  TakeOut(sequence);
}

void WaitingQueue::TakeOut(Sequence* sequence) {
  const auto level = levels_.find(sequence->group.priority);
  CHECK(level != levels_.end());
  const auto queue = level->second.find(sequence->group.client);
  CHECK(queue != level->second.end());
  if (queue->second.put_back.erase(sequence->rank) == 0) {
    std::deque<Sequence*>& fresh = queue->second.fresh;
    const auto place = std::find(fresh.begin(), fresh.end(), sequence);
    CHECK(place != fresh.end());
    fresh.erase(place);
  }
  --size_;
  if (!queue->second.empty()) return;
  level->second.erase(queue);
  if (level->second.empty()) levels_.erase(level);
}

void WaitingQueue::Settle(const Sequence& sequence, double num_tokens) {
  const auto account = accounts_.find(sequence.group.priority);
  CHECK(account != accounts_.end());
  auto& clients = account->second.clients;
  const auto client = clients.find(sequence.group.client);
  CHECK(client != clients.end());
  client->second.charged += (num_tokens - sequence.charged_tokens) / sequence.group.client_weight;
  if (--client->second.num_sequences == 0) clients.erase(client);
  if (clients.empty()) accounts_.erase(account);
}

}  // namespace moelight
