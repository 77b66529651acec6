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

}  // namespace

Executor::Executor(Backend& backend) {
  for (Lane lane : kAllLanes) streams_[static_cast<int>(lane)] = backend.CreateStream(lane);
}

absl::StatusOr<LaneTimes> Executor::Run(const StepPlan& plan, TaskRunner& runner) {
  const int num_tasks = static_cast<int>(plan.tasks.size());
  for (auto& stream : streams_) stream->BeginStep(num_tasks);
  for (int i = 0; i < num_tasks; ++i) {
    const Task& task = plan.tasks[i];
    const Lane lane = TaskLane(task.kind);
    for (int32_t before : task.after) {
      const Lane other = TaskLane(plan.tasks[before].kind);
      if (other != lane) RETURN_IF_ERROR(stream(lane).WaitFor(stream(other), before));
    }
    stream(lane).BeginTask(i);
    RETURN_IF_ERROR(runner.Run(task, stream(lane)));
    stream(lane).EndTask(i);
  }
  for (auto& stream : streams_) RETURN_IF_ERROR(stream->Synchronize());
  return Measure(plan);
}

LaneTimes Executor::Measure(const StepPlan& plan) {
  LaneTimes times;
  const int num_tasks = static_cast<int>(plan.tasks.size());
  if (num_tasks == 0) return times;
  timings_.clear();
  compute_.clear();
  double begin_us = 0;
  double end_us = 0;
  for (int i = 0; i < num_tasks; ++i) {
    const Lane lane = TaskLane(plan.tasks[i].kind);
    const TaskTiming timing = stream(lane).timing(i);
    begin_us = i == 0 ? timing.begin_us : std::min(begin_us, timing.begin_us);
    end_us = i == 0 ? timing.end_us : std::max(end_us, timing.end_us);
    timings_.push_back(timing);
    if (IsCompute(lane)) compute_.push_back(timing);
  }
  MergeIntervals(&compute_);
  times.step_us = end_us - begin_us;

  std::array<double, kNumLanes> lane_free_us;
  lane_free_us.fill(begin_us);
  for (int i = 0; i < num_tasks; ++i) {
    const Task& task = plan.tasks[i];
    const int lane = static_cast<int>(TaskLane(task.kind));
    times.busy_us[lane] += timings_[i].end_us - timings_[i].begin_us;
    if (!IsCompute(TaskLane(task.kind))) {
      times.transfer_overlapped_us += OverlapUs(timings_[i], compute_);
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
  return times;
}

}  // namespace moelight
