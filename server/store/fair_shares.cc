#include "server/store/fair_shares.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>
#include <tuple>
#include <utility>

#include "server/store/timestamps.h"

namespace moelight {
namespace {

bool GoesBefore(const JobRank& a, const JobRank& b) {
  return std::tie(b.priority, a.expire_time, a.seal_order) <
         std::tie(a.priority, b.expire_time, b.seal_order);
}

// A client while places are dealt among jobs of one priority.
struct Dealing {
  double weight = 1;
  int64_t num_held = 0;
  std::vector<size_t> jobs;  // in order
  size_t next = 0;           // in `jobs`
  int64_t num_left = 0;      // rows of jobs[next]
};

// Deals among jobs of one priority, given in order. Returns how many places are left.
int64_t DealAmong(absl::Span<const WaitingJob> jobs, absl::Span<const size_t> order,
                  absl::flat_hash_map<absl::string_view, int64_t>& in_flight,
                  const ClientWeights& weights, int64_t num_places, std::vector<DealtRows>& dealt) {
  std::vector<Dealing> clients;
  absl::flat_hash_map<absl::string_view, size_t> index_of_client;
  for (const size_t job : order) {
    if (jobs[job].num_rows <= 0) continue;
    const absl::string_view name = jobs[job].rank.client;
    const auto [found, is_new] = index_of_client.emplace(name, clients.size());
    if (is_new) {
      clients.push_back(
          {static_cast<double>(weights.of(name)), in_flight[name], {}, 0, jobs[job].num_rows});
    }
    clients[found->second].jobs.push_back(job);
  }
  // What a client would hold for its weight with one place more; of equals, the one whose job comes
  // first in order.
  using Turn = std::pair<double, size_t>;
  std::priority_queue<Turn, std::vector<Turn>, std::greater<>> turns;
  const auto queue_up = [&](size_t index) {
    turns.emplace(static_cast<double>(clients[index].num_held + 1) / clients[index].weight, index);
  };
  for (size_t i = 0; i < clients.size(); ++i) queue_up(i);
  absl::flat_hash_map<size_t, size_t> place_of_job;  // in `dealt`
  for (; num_places > 0 && !turns.empty(); --num_places) {
    const size_t index = turns.top().second;
    turns.pop();
    Dealing& client = clients[index];
    const size_t job = client.jobs[client.next];
    const auto [found, is_new] = place_of_job.emplace(job, dealt.size());
    if (is_new) dealt.push_back({job, 0});
    ++dealt[found->second].num_rows;
    ++client.num_held;
    if (--client.num_left == 0 && ++client.next < client.jobs.size()) {
      client.num_left = jobs[client.jobs[client.next]].num_rows;
    }
    if (client.num_left > 0) queue_up(index);
  }
  for (const auto& [name, index] : index_of_client) in_flight[name] = clients[index].num_held;
  return num_places;
}

}  // namespace

JobRank RankOf(const v1::BatchJob& job, int64_t seal_order) {
  return {job.client(), job.priority(),
          job.has_expire_time() ? ToAbslTime(job.expire_time()) : absl::InfiniteFuture(),
          seal_order};
}

std::vector<DealtRows> DealPlaces(absl::Span<const WaitingJob> jobs,
                                  absl::flat_hash_map<absl::string_view, int64_t> in_flight,
                                  const ClientWeights& weights, int64_t num_places) {
  std::vector<size_t> order(jobs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [jobs](size_t a, size_t b) { return GoesBefore(jobs[a].rank, jobs[b].rank); });
  std::vector<DealtRows> dealt;
  for (size_t begin = 0; begin < order.size() && num_places > 0;) {
    size_t end = begin;
    while (end < order.size() &&
           jobs[order[end]].rank.priority == jobs[order[begin]].rank.priority) {
      ++end;
    }
    num_places = DealAmong(jobs, absl::MakeConstSpan(order).subspan(begin, end - begin), in_flight,
                           weights, num_places, dealt);
    begin = end;
  }
  return dealt;
}

double TokensUntilDone(absl::Span<const OpenJob> jobs, size_t job, const ClientWeights& weights) {
  const JobRank& own_rank = jobs[job].rank;
  double before = 0;                  // of higher priority: all of it comes first
  double own = jobs[job].num_tokens;  // with the client's own jobs that go before
  absl::flat_hash_map<absl::string_view, double> others;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const JobRank& rank = jobs[i].rank;
    if (i == job || rank.priority < own_rank.priority) continue;
    if (rank.priority > own_rank.priority) {
      before += jobs[i].num_tokens;
    } else if (rank.client != own_rank.client) {
      others[rank.client] += jobs[i].num_tokens;
    } else if (GoesBefore(rank, own_rank)) {
      own += jobs[i].num_tokens;
    }
  }
  // Until the client has got `own`, every other client gets as much for its weight, or all it
  // wants.
  double sum = before + own;
  const double own_weight = weights.of(own_rank.client);
  for (const auto& [client, num_tokens] : others) {
    sum += std::min(num_tokens, own * weights.of(client) / own_weight);
  }
  return sum;
}

}  // namespace moelight
