// WaitingQueue: sequences that wait for a place, and which of them is next.
//
// Higher priority first, always. Among clients of one priority the one that was charged least by
// its weight so far (start-time fair queueing; Goyal, Vin and Cheng 1996): a client is charged for
// a sequence when it is admitted, by what is expected of it, and what was expected wrongly is
// settled at its end. A client that was idle starts where the others stand; it has no claim on the
// past. Within a client those that were put back first, in the order of their first admission (but
// see PreferNew), then first come, first served. So a client that waits is passed by others for no
// more than one sequence each per sequence of its own, at equal weights and lengths.
//
// Threads: engine thread. Borrows the sequences. No errors.
#ifndef MOELIGHT_ENGINE_SCHEDULER_WAITING_QUEUE_H_
#define MOELIGHT_ENGINE_SCHEDULER_WAITING_QUEUE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <absl/container/flat_hash_map.h>

#include "engine/scheduler/sequence.h"

namespace moelight {

class WaitingQueue {
 public:
  // A new sequence, behind its client's others.
  void Add(Sequence* sequence);
  // One that was admitted before, in front of its client's new ones.
  void PutBack(Sequence* sequence);
  // From now on a client's new ones go before those put back; or, as at the start, after them.
  void PreferNew(bool prefer_new) { prefer_new_ = prefer_new; }
  // Who is next, among those that are not passed over; null: none.
  Sequence* Front() const;
  // The front sequence's client is not looked at any more, in its priority, until EndRound().
  void PassOver(const Sequence& front);
  void EndRound() { passed_over_.clear(); }
  // Takes the front sequence out. Its client is charged `expected_tokens` unless it was before.
  void PopFront(double expected_tokens);
  // Takes out a sequence that waits.
  void Remove(Sequence* sequence) { TakeOut(sequence); }
  // A sequence has left for good: its client pays for `num_tokens` instead of what was expected.
  void Settle(const Sequence& sequence, double num_tokens);

  int64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  struct ClientQueue {
    std::map<int64_t, Sequence*> put_back;  // by rank
    std::deque<Sequence*> fresh;
    bool empty() const { return put_back.empty() && fresh.empty(); }
    Sequence* front(bool prefer_new) const {
      const bool is_new = put_back.empty() || (prefer_new && !fresh.empty());
      return is_new ? fresh.front() : put_back.begin()->second;
    }
  };
  struct Client {
    double charged = 0;         // tokens by weight
    int64_t num_sequences = 0;  // that wait or run
  };
  // Of one priority. Apart, because a client's few interactive requests say nothing of its share of
  // the batch.
  struct Account {
    absl::flat_hash_map<std::string, Client> clients;
    double virtual_time = 0;  // the most that a client had been charged before it was served
  };
  using Level = std::map<std::string, ClientQueue>;  // by client; none is empty

  // Where `sequence` is about to be added.
  ClientQueue& QueueOf(const Sequence& sequence);
  const Level::value_type* FrontQueue() const;
  bool IsPassedOver(int32_t priority, const std::string& client) const;
  void TakeOut(Sequence* sequence);

  std::map<int32_t, Level, std::greater<int32_t>> levels_;  // by priority
  std::map<int32_t, Account> accounts_;                     // by priority; none is empty
  std::vector<std::pair<int32_t, std::string>> passed_over_;
  bool prefer_new_ = false;
  int64_t size_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SCHEDULER_WAITING_QUEUE_H_
