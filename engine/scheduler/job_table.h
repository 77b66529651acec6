// JobTable: what the sequences of a job have in common while there are any: known prompt beginnings
// and what their lengths tell.
//
// Threads: engine thread. Borrows the PrefixIndex. Allocates per job.
#ifndef MOELIGHT_ENGINE_SCHEDULER_JOB_TABLE_H_
#define MOELIGHT_ENGINE_SCHEDULER_JOB_TABLE_H_

#include <cstdint>
#include <memory>
#include <string>

#include <absl/container/flat_hash_map.h>

#include "engine/base/check.h"
#include "engine/memory/prefix_index.h"
#include "engine/scheduler/length_model.h"

namespace moelight {

struct Job {
  PrefixIndex::NodeId root = PrefixIndex::kNone;  // of its prompts; none: they are not shared
  LengthModel lengths;
  int64_t num_sequences = 0;
};

class JobTable {
 public:
  JobTable(PrefixIndex& prefixes, bool share_prefixes, int32_t expected_output_tokens)
      : prefixes_(prefixes),
        share_prefixes_(share_prefixes),
        expected_output_tokens_(expected_output_tokens) {}

  // One more sequence of the job; sequences that name none are one job that shares no prompts.
  // The job stays where it is until its last sequence has left.
  Job* Enter(const std::string& name) {
    std::unique_ptr<Job>& job = jobs_[name];
    if (job == nullptr) {
      const bool shares = share_prefixes_ && !name.empty();
      job.reset(new Job{shares ? prefixes_.AddScope() : PrefixIndex::kNone,
                        LengthModel(expected_output_tokens_)});
    }
    ++job->num_sequences;
    return job.get();
  }
  void Leave(const std::string& name) {
    const auto job = jobs_.find(name);
    CHECK(job != jobs_.end());
    if (--job->second->num_sequences > 0) return;
    if (job->second->root != PrefixIndex::kNone) prefixes_.DropScope(job->second->root);
    jobs_.erase(job);
  }

 private:
  PrefixIndex& prefixes_;
  const bool share_prefixes_;
  const int32_t expected_output_tokens_;
  absl::flat_hash_map<std::string, std::unique_ptr<Job>> jobs_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_SCHEDULER_JOB_TABLE_H_
