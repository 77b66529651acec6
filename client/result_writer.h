// ResultWriter: results of one job into an output file, counting the failures.
//
// Threads: one. Borrows the file.
#ifndef MOELIGHT_CLIENT_RESULT_WRITER_H_
#define MOELIGHT_CLIENT_RESULT_WRITER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include <absl/status/status.h>

#include "client/openai_batch.h"
#include "client/output_file.h"
#include "moelight/v1/batch_job.pb.h"

namespace moelight::client {

// Labels that `submit` gives a job, so that `results` can write the lines later on.
inline constexpr char kUrlLabel[] = "moelight.url";      // a row URL, or kMixedUrls
inline constexpr char kModelLabel[] = "moelight.model";  // the served model's name
inline constexpr char kMixedUrls[] = "mixed";
inline constexpr int kMaxLabelBytes = 64;  // of the protocol

class ResultWriter {
 public:
  using KindOfRow = std::function<std::optional<RowKind>(int64_t row)>;

  ResultWriter(OutputFile& file, ResultFormatter formatter, KindOfRow kind_of_row)
      : file_(file), formatter_(std::move(formatter)), kind_of_row_(std::move(kind_of_row)) {}

  absl::Status Write(const v1::ReadBatchResultsResponse& response);

  int64_t num_results() const { return num_results_; }
  int64_t num_failed() const { return num_failed_; }

 private:
  OutputFile& file_;
  const ResultFormatter formatter_;
  const KindOfRow kind_of_row_;
  int64_t num_results_ = 0;
  int64_t num_failed_ = 0;
};

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_RESULT_WRITER_H_
