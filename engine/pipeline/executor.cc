#include "engine/pipeline/executor.h"

#include <algorithm>

#include "engine/base/status_macros.h"

namespace moelight {
namespace {

bool IsCompute(Lane lane) { return lane == Lane::kGpu || lane == Lane::kCpu; }

// Sorts and merges intervals in place, so that none overlap.
void MergeIntervals(std::vector<TaskTiming>* intervals) {
  std::sort(intervals->begin(), intervals->end(),
            [](const TaskTiming& a, const TaskTiming& b) { return a.begin_us < b.begin_us; });
  size_t count = 0;
  for (const TaskTiming& interval : *intervals) {
    if (count > 0 && interval.begin_us <= (*intervals)[count - 1].end_us) {
      TaskTiming& last = (*intervals)[count - 1];
      last.end_us = std::max(last.end_us, interval.end_us);
    } else {
      (*intervals)[count++] = interval;
    }
  }
  intervals->resize(count);
}

// How much of `interval` is covered by the merged `cover`.
double OverlapUs(const TaskTiming& interval, const std::vector<TaskTiming>& cover) {
  auto it = std::lower_bound(
      cover.begin(), cover.end(), interval.begin_us,
      [](const TaskTiming& part, double begin_us) { return part.end_us <= begin_us; });
  double overlap_us = 0;
  for (; it != cover.end() && it->begin_us < interval.end_us; ++it) {
    overlap_us += std::min(it->end_us, interval.end_us) - std::max(it->begin_us, interval.begin_us);
  }
  return overlap_us;
}

// What of the merged `intervals` the merged `cover` leaves.
void SubtractIntervals(const std::vector<TaskTiming>& intervals,
                       const std::vector<TaskTiming>& cover, std::vector<TaskTiming>* left) {
  left->clear();
  auto part = cover.begin();
  for (const TaskTiming& interval : intervals) {
    double begin_us = interval.begin_us;
    while (part != cover.end() && part->end_us <= begin_us) ++part;
    for (auto it = part; it != cover.end() && it->begin_us < interval.end_us; ++it) {
      if (it->begin_us > begin_us) left->push_back({begin_us, it->begin_us});
      begin_us = std::max(begin_us, it->end_us);
    }
    if (begin_us < interval.end_us) left->push_back({begin_us, interval.end_us});
  }
}

}  // namespace

Executor::Executor(Backend& backend) {
  for (Lane lane : kAllLanes) streams_[static_cast<int>(lane)] = backend.CreateStream(lane);
}

Executor::~Executor() {
  // An error is of no use any more; what counts is that nothing reads the memory that goes next.
  for (auto& stream : streams_) (void)stream->Synchronize();
}

absl::StatusOr<LaneTimes> Executor::Run(const StepPlan& plan, TaskRunner& runner) {
  absl::Status issued = Issue(plan, runner);
  // Also after an error: what has been issued still reads the batch.
  for (Lane lane : {Lane::kGpu, Lane::kCpu, Lane::kDeviceToHost}) {
    issued.Update(stream(lane).Synchronize());
  }
  // What else the link carried has been used by the tasks above.
  if (!issued.ok() || num_issued_ahead_ == 0) {
    issued.Update(stream(Lane::kHostToDevice).Synchronize());
  }
  RETURN_IF_ERROR(issued);
  return Measure(plan);
}

absl::Status Executor::Issue(const StepPlan& plan, TaskRunner& runner) {
  const int num_tasks = static_cast<int>(plan.tasks.size());
  for (auto& stream : streams_) stream->BeginStep(num_tasks);
  const int first = num_issued_ahead_;
  CHECK(first == 0 || first == plan.num_head_tasks);
  num_issued_ahead_ = 0;
  for (int i = first; i < num_tasks; ++i) RETURN_IF_ERROR(IssueTask(plan, i, runner));
  return absl::OkStatus();
}

absl::Status Executor::IssueTask(const StepPlan& plan, int index, TaskRunner& runner) {
  const Task& task = plan.tasks[index];
  const Lane lane = TaskLane(task.kind);
  for (int32_t before : task.after) {
    const Lane other = TaskLane(plan.tasks[before].kind);
    if (other != lane) RETURN_IF_ERROR(stream(lane).WaitFor(stream(other), before));
  }
  const int name = task.ahead ? num_issued_ahead_++ : index;
  if (task.ahead) stream(lane).BeginAhead(plan.num_head_tasks);
  stream(lane).BeginTask(name);
  RETURN_IF_ERROR(runner.Run(task, stream(lane)));
  stream(lane).EndTask(name);
  if (task.ahead) stream(lane).EndAhead();
  return absl::OkStatus();
}

void Executor::CollectTimings(const StepPlan& plan) {
  last_compute_.swap(compute_);
  timings_.clear();
  compute_.clear();
  transfer_.clear();
  for (int i = 0; i < static_cast<int>(plan.tasks.size()); ++i) {
    const Task& task = plan.tasks[i];
    const Lane lane = TaskLane(task.kind);
    timings_.push_back(task.ahead ? TaskTiming() : stream(lane).timing(i));
    if (!task.ahead) (IsCompute(lane) ? compute_ : transfer_).push_back(timings_.back());
  }
  MergeIntervals(&compute_);
}

LaneTimes Executor::Measure(const StepPlan& plan) {
  LaneTimes times;
  CollectTimings(plan);
  const int num_tasks = static_cast<int>(plan.tasks.size());
  if (num_tasks == plan.num_head_tasks) return times;
  double begin_us = timings_[plan.num_head_tasks].begin_us;
  double end_us = begin_us;
  for (int i = plan.num_head_tasks; i < num_tasks; ++i) {
    if (plan.tasks[i].ahead) continue;
    begin_us = std::min(begin_us, timings_[i].begin_us);
    end_us = std::max(end_us, timings_[i].end_us);
  }
  times.step_us = end_us - begin_us;

  std::array<double, kNumLanes> lane_free_us;
  lane_free_us.fill(begin_us);
  for (int i = 0; i < num_tasks; ++i) {
    const Task& task = plan.tasks[i];
    if (task.ahead) continue;
    const int lane = static_cast<int>(TaskLane(task.kind));
    times.busy_us[lane] += timings_[i].end_us - timings_[i].begin_us;
    if (!IsCompute(TaskLane(task.kind))) {
      times.transfer_overlapped_us += OverlapUs(timings_[i], compute_);
      if (i < plan.num_head_tasks) {
        times.transfer_overlapped_us += OverlapUs(timings_[i], last_compute_);
        times.compute_overlapped_us += OverlapUs(timings_[i], last_uncovered_);
      }
    }
    // A stall is blamed on the edge that was fulfilled last, if it was after the lane became free.
    int cause = lane;
    double ready_us = lane_free_us[lane];
    for (int32_t before : task.after) {
      if (timings_[before].end_us > ready_us) {
        ready_us = timings_[before].end_us;
        cause = static_cast<int>(TaskLane(plan.tasks[before].kind));
      }
    }
    times.stall_us[lane][cause] += std::max(0.0, timings_[i].begin_us - lane_free_us[lane]);
    lane_free_us[lane] = std::max(lane_free_us[lane], timings_[i].end_us);
  }
  MergeIntervals(&transfer_);
  for (const TaskTiming& interval : compute_) {
    times.compute_overlapped_us += OverlapUs(interval, transfer_);
  }
  SubtractIntervals(compute_, transfer_, &last_uncovered_);
  return times;
}

}  // namespace moelight
