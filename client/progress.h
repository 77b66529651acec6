// Progress: shows how a job goes on, as a bar that redraws itself on a terminal or as plain lines.
//
// Rates are taken over the last ten seconds or so; before two updates they are not shown.
//
// Threads: one. Borrows the stream. The clock is the caller's, so that tests need not wait.
#ifndef MOELIGHT_CLIENT_PROGRESS_H_
#define MOELIGHT_CLIENT_PROGRESS_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <ostream>
#include <string>

#include <absl/time/time.h>

#include "moelight/v1/batch_job.pb.h"

namespace moelight::client {

struct ProgressOptions {
  bool terminal = false;
  int columns = 80;                                 // of the terminal
  absl::Duration line_interval = absl::Seconds(5);  // between plain lines in one state
};

class Progress {
 public:
  Progress(std::ostream& out, const ProgressOptions& options);

  void Update(const v1::BatchJob& job, absl::Time now);
  // Ends the bar's line, so that what follows starts on a fresh one.
  void Finish();

 private:
  struct Sample {
    absl::Time time;
    int64_t rows_done = 0;
    int64_t generated_tokens = 0;
  };
  struct Rates {
    double rows_per_second = 0;
    double tokens_per_second = 0;
  };
  void AddSample(const v1::BatchJob& job, absl::Time now);
  std::optional<Rates> MeasuredRates() const;
  std::string Describe(const v1::BatchJob& job) const;
  void DrawBar(const v1::BatchJob& job);
  void PrintLine(const v1::BatchJob& job, absl::Time now);

  std::ostream& out_;
  const ProgressOptions options_;
  std::deque<Sample> samples_;  // oldest first
  bool bar_drawn_ = false;
  v1::BatchJob::State printed_state_ = v1::BatchJob::STATE_UNSPECIFIED;
  absl::Time printed_at_ = absl::InfinitePast();
};

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_PROGRESS_H_
