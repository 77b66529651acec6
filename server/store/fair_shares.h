// Fair shares: which jobs the next rows come from, and when a job will be done.
//
// Jobs with a higher priority go first. Among those of equal priority, clients share in proportion
// to their weights, and what one cannot use goes to the others. A client's own jobs run one after
// the other: the earliest expire_time first, then in the order in which they were sealed.
//
// Pure functions.
#ifndef MOELIGHT_SERVER_STORE_FAIR_SHARES_H_
#define MOELIGHT_SERVER_STORE_FAIR_SHARES_H_

#include <cstdint>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/strings/string_view.h>
#include <absl/time/time.h>
#include <absl/types/span.h>

#include "moelight/v1/batch_job.pb.h"
#include "server/client_weights.h"

namespace moelight {

// A job's place in the order.
struct JobRank {
  absl::string_view client;
  int32_t priority = 0;
  absl::Time expire_time = absl::InfiniteFuture();
  int64_t seal_order = 0;
};

// The views live as long as `job`.
JobRank RankOf(const v1::BatchJob& job, int64_t seal_order);

// A job with rows that wait.
struct WaitingJob {
  JobRank rank;
  int64_t num_rows = 0;  // that wait; may be 0
};

// So many rows of jobs[job].
struct DealtRows {
  size_t job = 0;
  int64_t num_rows = 0;
};

// Deals `num_places` one by one, each to the client that holds the fewest for its weight.
// `in_flight` is what clients hold already, of any priority. Jobs come in the order of their first
// place, so that whoever is furthest behind goes first if not all can be had at once. No job comes
// twice.
std::vector<DealtRows> DealPlaces(absl::Span<const WaitingJob> jobs,
                                  absl::flat_hash_map<absl::string_view, int64_t> in_flight,
                                  const ClientWeights& weights, int64_t num_places);

// A job with work that is not done.
struct OpenJob {
  JobRank rank;
  double num_tokens = 0;
};

// Tokens that are computed up to the end of jobs[job]: its own, those of jobs that go before it,
// and what other clients get meanwhile for their weights.
double TokensUntilDone(absl::Span<const OpenJob> jobs, size_t job, const ClientWeights& weights);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_FAIR_SHARES_H_
