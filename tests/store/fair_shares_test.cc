// Goal: places are dealt as the rules say, whatever the mix of clients, weights and priorities, and
// the estimate of a job's end is that of machines that keep to these rules exactly.
#include "server/store/fair_shares.h"

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

namespace moelight {
namespace {

using InFlight = absl::flat_hash_map<absl::string_view, int64_t>;

ClientWeights Weights(absl::string_view text) { return ClientWeights::Parse(text).value(); }

WaitingJob Job(absl::string_view client, int32_t priority, int64_t num_rows, int64_t seal_order,
               absl::Time expire_time = absl::InfiniteFuture()) {
  return {{client, priority, expire_time, seal_order}, num_rows};
}

// Rows by job, 0 where none.
std::vector<int64_t> Deal(const std::vector<WaitingJob>& jobs, const InFlight& in_flight,
                          const ClientWeights& weights, int64_t num_places) {
  std::vector<int64_t> rows(jobs.size());
  for (const DealtRows& dealt : DealPlaces(jobs, in_flight, weights, num_places)) {
    EXPECT_EQ(rows.at(dealt.job), 0) << "job " << dealt.job << " comes twice";
    EXPECT_GT(dealt.num_rows, 0);
    rows.at(dealt.job) = dealt.num_rows;
  }
  return rows;
}

struct Case {
  std::string name;
  std::vector<WaitingJob> jobs;
  InFlight in_flight;
  std::string weights;
  int64_t num_places;
  std::vector<int64_t> wanted;
};

TEST(DealPlacesTest, Table) {
  const absl::Time noon = absl::FromUnixSeconds(1'000'000);
  const Case cases[] = {
      {"nothing waits", {}, {}, "", 10, {}},
      {"no places", {Job("a", 0, 5, 1)}, {}, "", 0, {0}},
      {"an empty job gets none", {Job("a", 0, 0, 1), Job("a", 0, 4, 2)}, {}, "", 3, {0, 3}},
      {"one client's million does not fill the window",
       {Job("a", 0, 1'000'000, 1), Job("b", 0, 20, 2)},
       {},
       "",
       100,
       {80, 20}},
      {"equal weights share evenly", {Job("a", 0, 99, 1), Job("b", 0, 99, 2)}, {}, "", 10, {5, 5}},
      {"weights", {Job("a", 0, 99, 1), Job("b", 0, 99, 2)}, {}, "a=4", 10, {8, 2}},
      {"what is in flight counts",
       {Job("a", 0, 99, 1), Job("b", 0, 99, 2)},
       {{"a", 6}},
       "",
       10,
       {2, 8}},
      {"who holds too much gets none until the others have caught up",
       {Job("a", 0, 99, 1), Job("b", 0, 99, 2)},
       {{"a", 50}},
       "",
       10,
       {0, 10}},
      {"jobs that name no client share one place",
       {Job("", 0, 99, 1), Job("", 0, 99, 2), Job("b", 0, 99, 3)},
       {},
       "",
       10,
       {5, 0, 5}},
      {"priority before fairness",
       {Job("a", 0, 99, 1), Job("b", 1, 99, 2)},
       {{"b", 90}},
       "a=1000",
       10,
       {0, 10}},
      {"lower priority gets the rest",
       {Job("a", -3, 99, 1), Job("b", 7, 4, 2), Job("c", 0, 3, 3)},
       {},
       "",
       10,
       {3, 4, 3}},
      {"of one client the earliest expire_time first, then the oldest",
       {Job("a", 0, 4, 1), Job("a", 0, 4, 3, noon), Job("a", 0, 4, 2, noon), Job("a", 0, 4, 0)},
       {},
       "",
       11,
       {0, 4, 4, 3}},
  };
  for (const Case& row : cases) {
    EXPECT_EQ(Deal(row.jobs, row.in_flight, Weights(row.weights), row.num_places), row.wanted)
        << row.name;
  }
}

TEST(DealPlacesTest, WhoIsFurthestBehindComesFirst) {
  const std::vector<WaitingJob> jobs = {Job("a", 0, 9, 1), Job("b", 0, 9, 2), Job("c", 0, 9, 3)};
  const std::vector<DealtRows> dealt = DealPlaces(jobs, {{"a", 2}, {"b", 1}}, {}, 9);
  ASSERT_EQ(dealt.size(), 3);
  EXPECT_EQ(dealt[0].job, 2);
  EXPECT_EQ(dealt[1].job, 1);
  EXPECT_EQ(dealt[2].job, 0);
}

// What the rules say, read literally: for each place look through everything.
std::vector<int64_t> SlowDeal(const std::vector<WaitingJob>& jobs,
                              std::map<std::string, int64_t> held, const ClientWeights& weights,
                              int64_t num_places) {
  std::vector<int64_t> rows(jobs.size());
  const auto has_left = [&](size_t job) { return rows[job] < jobs[job].num_rows; };
  for (; num_places > 0; --num_places) {
    int32_t priority = -1000;
    for (size_t i = 0; i < jobs.size(); ++i) {
      if (has_left(i)) priority = std::max(priority, jobs[i].rank.priority);
    }
    // The first job of every client, the clients compared by what they hold, then by that job.
    std::tuple<double, absl::Time, int64_t, size_t> best(1e300, absl::InfiniteFuture(), 0, 0);
    bool found = false;
    for (size_t i = 0; i < jobs.size(); ++i) {
      const JobRank& rank = jobs[i].rank;
      if (!has_left(i) || rank.priority != priority) continue;
      bool is_first = true;
      for (size_t k = 0; k < jobs.size(); ++k) {
        const JobRank& other = jobs[k].rank;
        if (!has_left(k) || other.priority != priority || other.client != rank.client) continue;
        is_first &= std::tie(rank.expire_time, rank.seal_order) <=
                    std::tie(other.expire_time, other.seal_order);
      }
      if (!is_first) continue;
      const std::string client(rank.client);
      const double key = static_cast<double>(held[client] + 1) / weights.of(client);
      if (found && key > std::get<0>(best)) continue;
      // Of clients that are level, the one that had the first job at the outset.
      absl::Time first_expiry = rank.expire_time;
      int64_t first_order = rank.seal_order;
      for (const WaitingJob& other : jobs) {
        if (other.rank.client != rank.client || other.rank.priority != priority) continue;
        if (other.num_rows == 0) continue;
        if (std::tie(other.rank.expire_time, other.rank.seal_order) <
            std::tie(first_expiry, first_order)) {
          first_expiry = other.rank.expire_time;
          first_order = other.rank.seal_order;
        }
      }
      const std::tuple<double, absl::Time, int64_t, size_t> turn(key, first_expiry, first_order, i);
      if (!found || turn < best) best = turn;
      found = true;
    }
    if (!found) return rows;
    ++rows[std::get<3>(best)];
    ++held[std::string(jobs[std::get<3>(best)].rank.client)];
  }
  return rows;
}

TEST(DealPlacesTest, EqualsTheRulesReadLiterally) {
  std::mt19937 random(7);
  const auto draw = [&random](int64_t max) { return static_cast<int64_t>(random() % (max + 1)); };
  const std::string names[] = {"", "a", "b", "c", "d"};
  for (int round = 0; round < 300; ++round) {
    std::string text = absl::StrCat("a=", 1 + draw(9), ",c=", 1 + draw(999));
    const ClientWeights weights = Weights(text);
    std::vector<WaitingJob> jobs;
    const int64_t num_jobs = draw(12);
    for (int64_t i = 0; i < num_jobs; ++i) {
      jobs.push_back(Job(names[draw(4)], static_cast<int32_t>(draw(2)) - 1, draw(30), i));
      if (draw(2) == 0) jobs.back().rank.expire_time = absl::FromUnixSeconds(draw(3));
    }
    std::shuffle(jobs.begin(), jobs.end(), random);
    InFlight in_flight;
    std::map<std::string, int64_t> held;
    for (const std::string& name : names) held[name] = in_flight[name] = draw(20);
    const int64_t num_places = draw(150);
    EXPECT_EQ(Deal(jobs, in_flight, weights, num_places), SlowDeal(jobs, held, weights, num_places))
        << "round " << round;
  }
}

// The machine in small slices: each goes to the clients of the highest priority in proportion to
// their weights, each client's to its first job. Returns what was computed until `job` was done.
double SimulateUntilDone(std::vector<OpenJob> jobs, size_t job, const ClientWeights& weights) {
  constexpr double kSlice = 0.25;  // of weight 1
  double sum = 0;
  while (jobs[job].num_tokens > 0) {
    std::map<std::string, size_t> first;  // by client
    int32_t priority = -1000;
    for (const OpenJob& open : jobs) {
      if (open.num_tokens > 0) priority = std::max(priority, open.rank.priority);
    }
    for (size_t i = 0; i < jobs.size(); ++i) {
      const JobRank& rank = jobs[i].rank;
      if (jobs[i].num_tokens <= 0 || rank.priority != priority) continue;
      const auto [found, is_new] = first.emplace(rank.client, i);
      const JobRank& best = jobs[found->second].rank;
      if (std::tie(rank.expire_time, rank.seal_order) <
          std::tie(best.expire_time, best.seal_order)) {
        found->second = i;
      }
    }
    for (const auto& [client, i] : first) {
      const double tokens = std::min(jobs[i].num_tokens, kSlice * weights.of(client));
      jobs[i].num_tokens -= tokens;
      sum += tokens;
    }
  }
  return sum;
}

TEST(TokensUntilDoneTest, IsWhatAMachineThatSharesExactlyComputes) {
  std::mt19937 random(11);
  const ClientWeights weights = Weights("a=3,b=2");
  const std::string names[] = {"", "a", "b"};
  for (int round = 0; round < 200; ++round) {
    std::vector<OpenJob> jobs;
    for (int64_t i = 0; i < 6; ++i) {
      JobRank rank{names[random() % 3], static_cast<int32_t>(random() % 3), absl::InfiniteFuture(),
                   i};
      if (random() % 3 == 0) rank.expire_time = absl::FromUnixSeconds(random() % 4);
      jobs.push_back({rank, static_cast<double>(1 + random() % 100)});
    }
    for (size_t job = 0; job < jobs.size(); ++job) {
      // Slices end a little late: of every client, one.
      EXPECT_NEAR(TokensUntilDone(jobs, job, weights), SimulateUntilDone(jobs, job, weights), 4)
          << "round " << round << " job " << job;
    }
  }
}

TEST(TokensUntilDoneTest, LowerPrioritiesAndLaterJobsAreNotWaitedFor) {
  const std::vector<OpenJob> jobs = {{{"a", 0, absl::InfiniteFuture(), 1}, 100},
                                     {{"a", 0, absl::InfiniteFuture(), 2}, 1000},
                                     {{"b", -1, absl::InfiniteFuture(), 0}, 1000},
                                     {{"b", 0, absl::InfiniteFuture(), 3}, 30},
                                     {{"c", 1, absl::InfiniteFuture(), 4}, 7}};
  EXPECT_EQ(TokensUntilDone(jobs, 0, {}), 100 + 30 + 7);
  EXPECT_EQ(TokensUntilDone(jobs, 0, Weights("a=10")), 100 + 10 + 7);
  EXPECT_EQ(TokensUntilDone(jobs, 4, {}), 7);
}

TEST(ClientWeightsTest, ReadsNamesAndWeights) {
  const ClientWeights weights = Weights(" alice=3 , team=x=1000,b=1");
  EXPECT_EQ(weights.of("alice"), 3);
  EXPECT_EQ(weights.of("team=x"), 1000);
  EXPECT_EQ(weights.of("nobody"), 1);
  EXPECT_EQ(weights.of(""), 1);
  EXPECT_EQ(Weights("  ").of("alice"), 1);
}

TEST(ClientWeightsTest, SaysWhatIsWrong) {
  const struct {
    std::string text;
    std::string reason;
  } cases[] = {
      {"alice", "\"alice\" is not NAME=WEIGHT"},
      {"a=1,", "\"\" is not NAME=WEIGHT"},
      {"=3", "the client's name \"\" has 0 bytes, must have 1 to 64"},
      {absl::StrCat(std::string(65, 'a'), "=3"), "has 65 bytes, must have 1 to 64"},
      {"a=0", "the weight of \"a\" is \"0\", must be 1 to 1000"},
      {"a=1001", "the weight of \"a\" is \"1001\", must be 1 to 1000"},
      {"a=-1", "the weight of \"a\" is \"-1\", must be 1 to 1000"},
      {"a=1.5", "the weight of \"a\" is \"1.5\", must be 1 to 1000"},
      {"a=", "the weight of \"a\" is \"\", must be 1 to 1000"},
      {"a=1, a=2", "\"a\" is there twice"},
  };
  for (const auto& row : cases) {
    const absl::Status status = ClientWeights::Parse(row.text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << row.text;
    EXPECT_NE(status.message().find(row.reason), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace moelight
