#include "engine/policy_search.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// More micro-batches overlap better and need smaller buffers; fewer read the experts from the GPU's
// memory less often. The paper's policies have up to some 20.
constexpr int32_t kMicroBatches[] = {1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 19};
constexpr int32_t kRingPercents[] = {125, 150, 200, 100};
// Prompt tokens of a step, in multiples of what a steady stream of requests needs: more fill the
// batch faster and need larger buffers.
constexpr int32_t kPromptShares[] = {2, 1, 4, 8};
// Fewer sequences than fit are better only where attention takes longer than everything else.
constexpr double kSequenceShares[] = {1, 0.75, 0.5, 0.25};
// Numbers of sequences that are tried, per doubling; always the same ones, so that with more memory
// nothing that was possible becomes impossible.
constexpr int kSequenceStepsPerDoubling = 32;
constexpr int32_t kMaxSequences = 1 << 16;
constexpr int64_t kMaxStepTokens = 1 << 17;
// Candidates this near to the best count as equal to it; of those, the most micro-batches are
// taken. Small ones keep the pipeline full when attention takes longer than predicted, and up to
// the balance point (MoE-Lightning equation 11) reading the experts again for each costs nothing.
constexpr double kIndifference = 0.005;
// Kept for the second round, in which everything else varies.
constexpr size_t kNumFinalists = 4;

// What one candidate decides.
struct Choices {
  const Schedule* schedule = nullptr;
  int32_t num_micro_batches = 0;
  int32_t ring_percent = 0;
  int32_t prompt_share = 0;
  double sequence_share = 1;
};

struct Candidate {
  Choices choices;
  PolicyChoice choice;
  double score = 0;  // the larger the better
};

// All numbers of sequences that are tried, ascending.
std::vector<int32_t> SequenceGrid() {
  std::vector<int32_t> grid;
  for (int step = 0;; ++step) {
    const double value = std::exp2(static_cast<double>(step) / kSequenceStepsPerDoubling);
    const int32_t count = static_cast<int32_t>(value);
    if (count > kMaxSequences) return grid;
    if (grid.empty() || grid.back() < count) grid.push_back(count);
  }
}

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
  // `options_` with the choices made, for `num_sequences`.
  EngineOptions With(const Choices& choices, int32_t num_sequences) const;
  // The most sequences of the grid that fit; 0: none.
  int32_t MostSequences(const Choices& choices);
  bool Fits(const Choices& choices, int32_t num_sequences);
  void Try(const Choices& choices, std::vector<Candidate>* candidates);
  std::vector<Candidate> FirstRound();
  void SecondRound(std::vector<Candidate>* candidates);
  // Of `candidates`, the best first: the one to take.
  static Candidate& Choose(std::vector<Candidate>& candidates);
  double Score(const PlanEvaluation& evaluation) const {
    return options_.objective == "energy" ? -evaluation.joules_per_token : evaluation.tokens_per_s;
  }

  const EngineOptions& options_;
  const PolicySetting& setting_;
  const WeightSizes& exact_sizes_;
  PlanEvaluator evaluator_;
  const std::vector<int32_t> grid_;
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
  if (options.max_running_sequences == 0) options.max_running_sequences = num_sequences;
  if (options.max_step_tokens == 0) {
    const WorkloadHint& workload = options.workload;
    const double steady = options.max_running_sequences * workload.mean_prompt_tokens /
                          std::max(1, workload.num_output_tokens);
    const double prompts =
        std::max<double>(workload.max_prompt_tokens, choices.prompt_share * std::ceil(steady));
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
  const double length = options.workload.mean_prompt_tokens + options.workload.num_output_tokens;
  const int64_t pages = static_cast<int64_t>(std::ceil(length / plan->kv_cache.page_tokens));
  return plan->kv_cache.num_pages >= pages * num_sequences;
}

int32_t PolicySearch::MostSequences(const Choices& choices) {
  if (options_.max_running_sequences > 0) return options_.max_running_sequences;
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
  return fits == 0 ? 0 : grid_[fits - 1];
}

absl::StatusOr<PolicyChoice> PolicySearch::Evaluate(const EngineOptions& options) {
  PolicyChoice choice;
  choice.options = options;
  ASSIGN_OR_RETURN(choice.plan, MakeEnginePlan(options, setting_.config, setting_.backend,
                                               setting_.host_backend, &exact_sizes_));
  ASSIGN_OR_RETURN(choice.evaluation, evaluator_.Evaluate(choice.plan, options.workload));
  return choice;
}

void PolicySearch::Try(const Choices& choices, std::vector<Candidate>* candidates) {
  const int32_t most = MostSequences(choices);
  if (most == 0) return;
  int32_t count = most;
  if (options_.max_running_sequences == 0 && choices.sequence_share < 1) {
    const int32_t wanted = static_cast<int32_t>(most * choices.sequence_share);
    const auto above = std::upper_bound(grid_.begin(), grid_.end(), wanted);
    if (above == grid_.begin()) return;
    count = *(above - 1);
  }
  absl::StatusOr<PolicyChoice> choice = Evaluate(With(choices, count));
  if (!choice.ok()) return;
  const double score = Score(choice->evaluation);
  candidates->push_back({choices, *std::move(choice), score});
}

// Schedules and numbers of micro-batches, everything else as it mostly turns out best.
std::vector<Candidate> PolicySearch::FirstRound() {
  std::vector<Candidate> candidates;
  for (const Schedule* schedule : ScheduleChoices()) {
    for (const int32_t num_micro_batches : MicroBatchChoices()) {
      // The smallest ring, for where nothing larger fits.
      for (const int32_t ring_percent : {kRingPercents[0], 100}) {
        const size_t before = candidates.size();
        Try({schedule, num_micro_batches, ring_percent, kPromptShares[0], 1}, &candidates);
        if (candidates.size() > before) break;
      }
    }
  }
  return candidates;
}

void PolicySearch::SecondRound(std::vector<Candidate>* candidates) {
  std::vector<Choices> finalists;
  finalists.push_back(Choose(*candidates).choices);
  for (size_t i = 0; i < std::min(kNumFinalists - 1, candidates->size()); ++i) {
    finalists.push_back((*candidates)[i].choices);
  }
  for (const Choices& finalist : finalists) {
    for (const int32_t ring_percent : kRingPercents) {
      for (const int32_t prompt_share : kPromptShares) {
        for (const double sequence_share : kSequenceShares) {
          Choices choices = finalist;
          choices.ring_percent = ring_percent;
          choices.prompt_share = prompt_share;
          choices.sequence_share = sequence_share;
          Try(choices, candidates);
        }
      }
    }
  }
}

Candidate& PolicySearch::Choose(std::vector<Candidate>& candidates) {
  const double good_enough =
      candidates.front().score - kIndifference * std::abs(candidates.front().score);
  Candidate* chosen = &candidates.front();
  for (Candidate& candidate : candidates) {
    if (candidate.score >= good_enough &&
        candidate.choices.num_micro_batches > chosen->choices.num_micro_batches) {
      chosen = &candidate;
    }
  }
  return *chosen;
}

absl::StatusOr<PolicyChoice> PolicySearch::Run() {
  const auto is_better = [](const Candidate& a, const Candidate& b) { return a.score > b.score; };
  std::vector<Candidate> candidates = FirstRound();
  if (candidates.empty()) {
    // The reason is that of the smallest candidate.
    const Choices smallest = {ScheduleChoices().front(), MicroBatchChoices().back(), 100,
                              kPromptShares[1], 1};
    RETURN_IF_ERROR(Evaluate(With(smallest, 1)).status());
    return absl::InternalError("no policy was found where one fits");
  }
  std::stable_sort(candidates.begin(), candidates.end(), is_better);
  SecondRound(&candidates);
  std::stable_sort(candidates.begin(), candidates.end(), is_better);
  return std::move(Choose(candidates).choice);
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
