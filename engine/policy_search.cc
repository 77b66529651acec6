#include "engine/policy_search.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/types/span.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/policy_choices.h"

namespace moelight {
namespace {

// Places in the batch for each sequence that pages hold on average. Simulated: 1.1 fill 93 percent
// of the pages, 1.25 fill 95 to 99, 2 fill 98, and every place takes buffers on the GPU.
constexpr double kPlacesPerSequence = 1.25;
// Prompt tokens that a step has room for at least: longer prompts are cut.
constexpr int32_t kMinPromptTokens = 512;
// Candidates this near to the best count as equal to it; of those, the most micro-batches are
// taken. Small ones keep the pipeline full when attention takes longer than predicted, and up to
// the balance point (MoE-Lightning equation 11) reading the experts again for each costs nothing.
constexpr double kIndifference = 0.005;
// Kept of each schedule for the second round, in which everything else varies.
constexpr size_t kNumFinalists = 2;
// Of the third round, around the best candidate: steps of the grid of sequences, and how often it
// may move on. Schedules that are further behind the best than this do not catch up.
constexpr int kGridSteps[] = {-16, -8, -4, -2, -1, 1, 2, 4, 8, 16};
constexpr int kMaxMoves = 16;
constexpr double kHopeless = 0.15;

struct Candidate {
  Choices choices;
  PolicyChoice choice;
  double score = 0;  // the larger the better
};

class PolicySearch {
 public:
  PolicySearch(const EngineOptions& options, const PolicySetting& setting,
               const WeightSizes& exact_sizes)
      : options_(options),
        setting_(setting),
        exact_sizes_(exact_sizes),
        evaluator_(setting.config, *options.hardware),
        grid_(SequenceGrid()) {}

  absl::StatusOr<PolicyChoice> Run();
  absl::StatusOr<PolicyChoice> Evaluate(const EngineOptions& options);

 private:
  std::vector<const Schedule*> ScheduleChoices() const;
  std::vector<int32_t> MicroBatchChoices() const;
  // Whether groups are a choice; of two micro-batches each is a group anyway.
  bool MayCoalesce(const Schedule& schedule, int32_t num_micro_batches) const {
    return options_.expert_coalescing == "auto" && schedule.policy_coalesces &&
           num_micro_batches > 2;
  }
  // `options_` with the choices made, for `num_sequences`.
  EngineOptions With(const Choices& choices, int32_t num_sequences) const;
  // The most sequences of the grid that fit; 0: none. Those of `choices` are not looked at.
  int32_t MostSequences(Choices choices);
  bool Fits(const Choices& choices, int32_t num_sequences);
  // Adds the candidate to those known, unless it is one of them or does not fit.
  void Try(Choices choices);
  // Several candidates, from as many sequences as fit to a small part of them.
  void TryShares(const Choices& choices, absl::Span<const double> shares);
  // Schedules, micro-batches and sequences, everything else as it mostly turns out best.
  void FirstRound();
  // Everything else, for the best of each schedule.
  void SecondRound();
  // From the best candidate of `schedule` to a better one beside it, as long as there is one.
  // Nothing if it is behind the best known by more than the share `hopeless`.
  void Climb(const Schedule* schedule, bool coalesces, double hopeless);
  // The best of `schedule` with groups, of all numbers of micro-batches. Tried last, and only from
  // there on, so that what is found without groups does not depend on them.
  void TryGroups(const Schedule* schedule);
  // Those of `schedule`, the best first.
  std::vector<const Candidate*> Ranked(const Schedule* schedule, bool coalesces = false) const;
  std::vector<Choices> Neighbours(const Choices& choices) const;
  static bool IsWorse(const Candidate& a, const Candidate& b) { return a.score < b.score; }
  // Than the best known, by more than this share of its score.
  bool IsWorseBy(double share, double score) const {
    const Candidate& best = *std::max_element(candidates_.begin(), candidates_.end(), IsWorse);
    return score < best.score - share * std::abs(best.score);
  }
  // Of those that count as equal to the best, one without groups if there is one, and the one with
  // the most micro-batches.
  Candidate& Finest();
  double Score(const PlanEvaluation& evaluation) const {
    return options_.objective == "energy" ? -evaluation.joules_per_token : evaluation.tokens_per_s;
  }

  const EngineOptions& options_;
  const PolicySetting& setting_;
  const WeightSizes& exact_sizes_;
  PlanEvaluator evaluator_;
  const std::vector<int32_t> grid_;
  std::map<ChoicesKey, int32_t> most_sequences_;  // that were found to fit
  std::set<ChoicesKey> tried_;
  std::deque<Candidate> candidates_;
};

std::vector<const Schedule*> PolicySearch::ScheduleChoices() const {
  std::vector<const Schedule*> schedules;
  for (const Schedule& schedule : Schedules()) {
    // Without a second device there is nothing to overlap.
    const bool is_serial = schedule.name == "serial";
    const bool is_choice = options_.schedule == "auto"
                               ? is_serial != setting_.backend.has_device_memory()
                               : options_.schedule == schedule.name;
    if (is_choice) schedules.push_back(&schedule);
  }
  return schedules;
}

std::vector<int32_t> PolicySearch::MicroBatchChoices() const {
  if (options_.num_micro_batches > 0) return {options_.num_micro_batches};
  if (!setting_.backend.has_device_memory()) return {1};
  return {std::begin(kMicroBatches), std::end(kMicroBatches)};
}

EngineOptions PolicySearch::With(const Choices& choices, int32_t num_sequences) const {
  EngineOptions options = options_;
  options.schedule = std::string(choices.schedule->name);
  options.num_micro_batches = choices.num_micro_batches;
  if (options.weight_ring_percent == 0) options.weight_ring_percent = choices.ring_percent;
  if (options.max_running_sequences == 0) {
    // Short ones fill the pages that long ones leave: there are more of them at times.
    const double places =
        options.admission == "paged" ? kPlacesPerSequence * num_sequences : num_sequences;
    options.max_running_sequences = static_cast<int32_t>(std::min<double>(kMaxSequences, places));
  }
  if (options.expert_coalescing == "auto") {
    options.expert_coalescing = choices.coalesces ? "on" : "off";
  }
  if (options.max_step_tokens == 0) {
    const WorkloadHint& workload = options.workload;
    const double steady = options.max_running_sequences * workload.mean_prompt_tokens /
                          std::max(1, workload.num_output_tokens);
    const double prompts =
        std::max<double>(kMinPromptTokens, choices.prompt_share * std::ceil(steady));
    options.max_step_tokens = static_cast<int32_t>(
        std::min<double>(kMaxStepTokens, options.max_running_sequences + prompts));
  }
  return WithFixedChoices(options);
}

bool PolicySearch::Fits(const Choices& choices, int32_t num_sequences) {
  const EngineOptions options = With(choices, num_sequences);
  const absl::StatusOr<EnginePlan> plan = MakeEnginePlan(options, setting_.config, setting_.backend,
                                                         setting_.host_backend, &exact_sizes_);
  if (!plan.ok()) return false;
  return PageLimitedSequences(*plan, options.workload) >= num_sequences;
}

int32_t PolicySearch::MostSequences(Choices choices) {
  choices.num_sequences = 0;
  const auto [known, is_new] = most_sequences_.emplace(choices.key(), 0);
  if (!is_new) return known->second;
  // What fits with some sequences fits with fewer.
  size_t fits = 0;
  size_t too_many = grid_.size();
  while (fits < too_many) {
    const size_t middle = fits + (too_many - fits) / 2;
    if (Fits(choices, grid_[middle])) {
      fits = middle + 1;
    } else {
      too_many = middle;
    }
  }
  if (fits > 0) known->second = grid_[fits - 1];
  return known->second;
}

absl::StatusOr<PolicyChoice> PolicySearch::Evaluate(const EngineOptions& options) {
  PolicyChoice choice;
  choice.options = options;
  ASSIGN_OR_RETURN(choice.plan, MakeEnginePlan(options, setting_.config, setting_.backend,
                                               setting_.host_backend, &exact_sizes_));
  ASSIGN_OR_RETURN(choice.evaluation, evaluator_.Evaluate(choice.plan, options.workload));
  return choice;
}

void PolicySearch::Try(Choices choices) {
  // What `options` fix does not make two candidates different.
  if (options_.weight_ring_percent > 0) choices.ring_percent = options_.weight_ring_percent;
  if (options_.max_step_tokens > 0) choices.prompt_share = 0;
  const int32_t most = MostSequences(choices);
  if (most == 0) return;
  choices.num_sequences = options_.max_running_sequences == 0 && choices.num_sequences > 0
                              ? std::min(choices.num_sequences, most)
                              : most;
  if (!tried_.insert(choices.key()).second) return;
  absl::StatusOr<PolicyChoice> choice = Evaluate(With(choices, choices.num_sequences));
  if (!choice.ok()) return;
  const double score = Score(choice->evaluation);
  candidates_.push_back({choices, *std::move(choice), score});
}

void PolicySearch::TryShares(const Choices& choices, absl::Span<const double> shares) {
  const int32_t most = MostSequences(choices);
  for (const double share : shares) {
    const auto above = std::upper_bound(grid_.begin(), grid_.end(), most * share);
    if (above == grid_.begin()) continue;
    Choices fewer = choices;
    fewer.num_sequences = *(above - 1);
    Try(fewer);
  }
}

std::vector<const Candidate*> PolicySearch::Ranked(const Schedule* schedule, bool coalesces) const {
  std::vector<const Candidate*> ranked;
  for (const Candidate& candidate : candidates_) {
    if (candidate.choices.schedule == schedule && candidate.choices.coalesces == coalesces) {
      ranked.push_back(&candidate);
    }
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const Candidate* a, const Candidate* b) { return IsWorse(*b, *a); });
  return ranked;
}

void PolicySearch::FirstRound() {
  for (const Schedule* schedule : ScheduleChoices()) {
    for (const int32_t num_micro_batches : MicroBatchChoices()) {
      // The smallest ring, for where nothing larger fits.
      for (const int32_t ring_percent : {kRingPercents[0], 100}) {
        const size_t before = candidates_.size();
        TryShares({schedule, num_micro_batches, ring_percent, kPromptShares[0]}, kSequenceShares);
        if (candidates_.size() > before) break;
      }
    }
  }
}

void PolicySearch::SecondRound() {
  std::vector<Choices> finalists = {Finest().choices};
  for (const Schedule* schedule : ScheduleChoices()) {
    const std::vector<const Candidate*> ranked = Ranked(schedule);
    for (size_t i = 0; i < std::min(kNumFinalists, ranked.size()); ++i) {
      if (IsWorseBy(kHopeless, ranked[i]->score)) break;
      finalists.push_back(ranked[i]->choices);
    }
  }
  for (const Choices& finalist : finalists) {
    for (const int32_t ring_percent : kRingPercents) {
      for (const int32_t prompt_share : kPromptShares) {
        Choices choices = finalist;
        choices.ring_percent = ring_percent;
        choices.prompt_share = prompt_share;
        TryShares(choices, absl::MakeConstSpan(kSequenceShares, kNumLargeShares));
      }
    }
  }
}

std::vector<Choices> PolicySearch::Neighbours(const Choices& choices) const {
  std::vector<Choices> neighbours;
  const auto add = [&](auto change) {
    neighbours.push_back(choices);
    change(neighbours.back());
  };
  for (const int32_t percent : kRingPercents) add([=](Choices& c) { c.ring_percent = percent; });
  for (const int32_t share : kPromptShares) add([=](Choices& c) { c.prompt_share = share; });
  const auto at = std::lower_bound(grid_.begin(), grid_.end(), choices.num_sequences);
  for (const int step : kGridSteps) {
    if (step < grid_.begin() - at || step >= grid_.end() - at) continue;
    add([=](Choices& c) { c.num_sequences = at[step]; });
  }
  for (const int32_t count : MicroBatchChoices()) {
    if (count == choices.num_micro_batches) continue;
    if (choices.coalesces && !MayCoalesce(*choices.schedule, count)) continue;
    // As many sequences, and micro-batches of the same size.
    add([=](Choices& c) { c.num_micro_batches = count; });
    const double same_size =
        static_cast<double>(choices.num_sequences) * count / choices.num_micro_batches;
    const auto above = std::upper_bound(grid_.begin(), grid_.end(), same_size);
    if (above == grid_.begin()) continue;
    add([=](Choices& c) {
      c.num_micro_batches = count;
      c.num_sequences = *(above - 1);
    });
  }
  return neighbours;
}

void PolicySearch::Climb(const Schedule* schedule, bool coalesces, double hopeless) {
  for (int move = 0; move < kMaxMoves; ++move) {
    const std::vector<const Candidate*> ranked = Ranked(schedule, coalesces);
    if (ranked.empty() || IsWorseBy(hopeless, ranked.front()->score)) return;
    const Choices best = ranked.front()->choices;
    for (const Choices& choices : Neighbours(best)) Try(choices);
    if (Ranked(schedule, coalesces).front()->choices.key() == best.key()) return;
  }
}

void PolicySearch::TryGroups(const Schedule* schedule) {
  const std::vector<const Candidate*> ranked = Ranked(schedule);
  if (ranked.empty() || IsWorseBy(kHopeless, ranked.front()->score)) return;
  for (const int32_t num_micro_batches : MicroBatchChoices()) {
    if (!MayCoalesce(*schedule, num_micro_batches)) continue;
    Choices choices = ranked.front()->choices;
    choices.num_micro_batches = num_micro_batches;
    choices.coalesces = true;
    Try(choices);
  }
  Climb(schedule, /*coalesces=*/true, /*hopeless=*/0);
}

Candidate& PolicySearch::Finest() {
  Candidate* chosen = &*std::max_element(candidates_.begin(), candidates_.end(), IsWorse);
  const double best_score = chosen->score;
  for (Candidate& candidate : candidates_) {
    if (candidate.score < best_score - kIndifference * std::abs(best_score)) continue;
    const auto rank = [](const Candidate& c) {
      return std::tuple(!c.choices.coalesces, c.choices.num_micro_batches, c.score);
    };
    if (rank(candidate) > rank(*chosen)) chosen = &candidate;
  }
  return *chosen;
}

absl::StatusOr<PolicyChoice> PolicySearch::Run() {
  FirstRound();
  if (candidates_.empty()) {
    // The reason is that of the smallest candidate.
    const Choices smallest = {ScheduleChoices().front(), MicroBatchChoices().back(), 100,
                              kPromptShares[1]};
    RETURN_IF_ERROR(Evaluate(With(smallest, 1)).status());
    return absl::InternalError("no policy was found where one fits");
  }
  SecondRound();
  for (const Schedule* schedule : ScheduleChoices()) {
    Climb(schedule, /*coalesces=*/false, kHopeless);
  }
  for (const Schedule* schedule : ScheduleChoices()) TryGroups(schedule);
  return std::move(Finest().choice);
}

absl::Status CheckObjective(const EngineOptions& options) {
  if (options.objective == "throughput") return absl::OkStatus();
  if (options.objective != "energy") {
    return absl::InvalidArgumentError(absl::StrCat("engine.objective: \"", options.objective,
                                                   "\" is not one of throughput, energy"));
  }
  if (options.hardware->power.idle_watts > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("engine.objective: energy needs the power section of the hardware profile, and ",
                   options.hardware->name, " has none"));
}

absl::StatusOr<WeightSizes> ExactSizes(const PolicySetting& setting) {
  WeightLayout layout = {&setting.backend.weight_format(), setting.backend.embedding_dtype(),
                         &setting.backend.expert_format()};
  layout.expert_page_bytes = Arena::kAlignment;
  return SizeWeights(setting.config, layout);
}

}  // namespace

absl::StatusOr<PolicyChoice> ChoosePolicy(const EngineOptions& options,
                                          const PolicySetting& setting) {
  CHECK(options.hardware != nullptr);
  RETURN_IF_ERROR(CheckObjective(options));
  if (options.schedule != "auto") RETURN_IF_ERROR(FindSchedule(options.schedule).status());
  ASSIGN_OR_RETURN(const WeightSizes exact_sizes, ExactSizes(setting));
  return PolicySearch(options, setting, exact_sizes).Run();
}

absl::StatusOr<PolicyChoice> EvaluatePolicy(const EngineOptions& options,
                                            const PolicySetting& setting) {
  CHECK(options.hardware != nullptr);
  ASSIGN_OR_RETURN(const WeightSizes exact_sizes, ExactSizes(setting));
  return PolicySearch(options, setting, exact_sizes).Evaluate(WithFixedChoices(options));
}

}  // namespace moelight
