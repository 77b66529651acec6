// JobEntry: one job as the writer keeps it; JobSnapshot: the committed copy that others read.
//
// Plain values. A JobEntry belongs to the writer thread; a JobSnapshot never changes once made.
#ifndef MOELIGHT_SERVER_STORE_JOB_ENTRY_H_
#define MOELIGHT_SERVER_STORE_JOB_ENTRY_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "moelight/v1/batch_job.pb.h"

namespace moelight {

// Why a job that has rows left is being ended. Stored as a number.
enum class Ending : uint8_t { kNone = 0, kCancel = 1, kExpire = 2 };

// A row handed to the engine that has no record yet.
struct InFlightRow {
  int64_t prompt_tokens = 0;  // estimated
  int32_t crashes = 0;        // of the process while the row was in flight
  bool running = false;       // handed out by this process; otherwise it waits to run again
};

struct JobEntry {
  int64_t serial = 0;          // order of creation
  moelight::v1::BatchJob job;  // as clients see it
  std::string request_id;
  int64_t num_refused = 0;  // rows refused at append
  // Rows that wait for or are in the engine, and their estimated prompt tokens. A row of a job that
  // is being ended counts only while it is in the engine.
  int64_t queued_rows = 0;
  int64_t queued_tokens = 0;
  int64_t estimated_output_tokens = 0;  // of all rows that were not refused
  int64_t row_bytes = 0;                // of all rows as they were sent
  int64_t seal_order = 0;               // 0: not sealed
  int64_t next_row = 0;                 // rows below were handed out, refused or ended
  Ending ending = Ending::kNone;
  absl::Time deadline = absl::InfiniteFuture();  // of expiry or, once ended, removal
  std::map<int64_t, InFlightRow> in_flight;      // by row

  int64_t num_results() const {
    return job.num_succeeded() + job.num_failed() + job.num_cancelled();
  }
  int64_t num_open() const { return job.num_rows() - num_results(); }
  bool ended() const {
    return job.state() == v1::BatchJob::STATE_SUCCEEDED ||
           job.state() == v1::BatchJob::STATE_FAILED ||
           job.state() == v1::BatchJob::STATE_CANCELLED ||
           job.state() == v1::BatchJob::STATE_EXPIRED;
  }
  bool runnable() const {
    return job.state() == v1::BatchJob::STATE_QUEUED || job.state() == v1::BatchJob::STATE_RUNNING;
  }
};

// A row that was in flight when an earlier process ended.
struct RequeuedRow {
  int64_t row = 0;
  int32_t crashes = 0;
};

struct JobSnapshot {
  moelight::v1::BatchJob job;
  int64_t serial = 0;
  int64_t seal_order = 0;
  int64_t next_row = 0;
  int64_t queued_rows = 0;  // rows that wait for or are in the engine
  int64_t queued_tokens = 0;
  int64_t num_in_flight = 0;  // of those, in the engine
  bool runnable = false;
  bool ended = false;
  std::vector<RequeuedRow> requeued;

  // Rows that were never handed out and are to run.
  int64_t num_waiting() const {
    return runnable ? queued_rows - num_in_flight - static_cast<int64_t>(requeued.size()) : 0;
  }
  int64_t num_results() const {
    return job.num_succeeded() + job.num_failed() + job.num_cancelled();
  }
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_JOB_ENTRY_H_
