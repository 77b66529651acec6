// Submission: the rows of a batch file on their way into a job.
//
// Threads: one. Borrows the output file. Memory: one bit per row.
#ifndef MOELIGHT_CLIENT_SUBMISSION_H_
#define MOELIGHT_CLIENT_SUBMISSION_H_

#include <cstdint>
#include <istream>
#include <ostream>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "client/batch_file.h"
#include "client/output_file.h"
#include "moelight/v1/batch_job.pb.h"

namespace moelight::client {

class Submission {
 public:
  // Bad lines go to `err` and, if it is not null, to `output` as output lines. `json`: to `err` as
  // JSON.
  Submission(std::istream& in, BatchFileOptions options, std::ostream& err, OutputFile* output,
             bool json);

  // Reads up to the first good row. False if there is none.
  absl::StatusOr<bool> ReadAhead();
  // What is known of the URLs after ReadAhead: that of the first rows, or kMixedUrls.
  std::string UrlLabel() const;

  // A RowSource: the next good row.
  absl::StatusOr<bool> NextRow(v1::BatchRequest& row);
  // Drops the first rows, which the job has already. OutOfRange if there are fewer.
  absl::Status SkipRows(int64_t num_rows);

  // REQUIRES: `row` was handed out or skipped.
  RowKind KindOfRow(int64_t row) const {
    return is_completion_[row] ? RowKind::kCompletion : RowKind::kChat;
  }
  int64_t num_rows() const { return static_cast<int64_t>(is_completion_.size()); }
  int64_t num_bad_lines() const { return num_bad_lines_; }
  bool has_both_kinds() const { return num_completions_ > 0 && num_completions_ < num_rows(); }

 private:
  // The next chunk that has rows. False at the end.
  absl::StatusOr<bool> NextChunk();
  absl::Status ReportBadLine(const BadLine& line);

  std::ostream& err_;
  OutputFile* const output_;
  const bool json_;
  std::vector<ParsedLine> rows_;  // of the current chunk
  size_t next_ = 0;               // in rows_
  std::vector<bool> is_completion_;
  int64_t num_completions_ = 0;
  int64_t num_bad_lines_ = 0;
  BatchFile file_;
};

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_SUBMISSION_H_
