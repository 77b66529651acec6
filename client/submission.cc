#include "client/submission.h"

#include <utility>

#include <absl/strings/str_cat.h>

#include "client/exit_code.h"
#include "client/result_writer.h"
#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

// A file of another format would otherwise fill the screen, or a disk, with its lines.
constexpr int64_t kMaxReportedLines = 1000;

}  // namespace

Submission::Submission(std::istream& in, BatchFileOptions options, std::ostream& err,
                       OutputFile* output, bool json)
    : err_(err), output_(output), json_(json), file_(in, std::move(options)) {}

absl::StatusOr<bool> Submission::ReadAhead() { return NextChunk(); }

std::string Submission::UrlLabel() const {
  for (const ParsedLine& row : rows_) {
    if (row.kind != rows_[0].kind) return kMixedUrls;
  }
  return std::string(RowUrl(rows_[0].kind));
}

absl::StatusOr<bool> Submission::NextRow(v1::BatchRequest& row) {
  if (next_ == rows_.size()) {
    ASSIGN_OR_RETURN(const bool more, NextChunk());
    if (!more) return false;
  }
  ParsedLine& parsed = rows_[next_++];
  const bool completion = parsed.kind == RowKind::kCompletion;
  is_completion_.push_back(completion);
  num_completions_ += completion;
  row.Swap(&parsed.request);
  return true;
}

absl::Status Submission::SkipRows(int64_t num_rows) {
  v1::BatchRequest row;
  for (int64_t i = 0; i < num_rows; ++i) {
    row.Clear();
    ASSIGN_OR_RETURN(const bool more, NextRow(row));
    if (!more) {
      return absl::OutOfRangeError(
          absl::StrCat("the job has ", num_rows, " rows already, the file only ", i));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Submission::NextChunk() {
  rows_.clear();
  next_ = 0;
  while (rows_.empty()) {
    absl::StatusOr<std::optional<BatchChunk>> chunk = file_.Next();
    RETURN_IF_ERROR(LocalError(chunk.status()));
    if (!chunk->has_value()) return false;
    for (const BadLine& line : (*chunk)->bad_lines) RETURN_IF_ERROR(ReportBadLine(line));
    rows_ = std::move((*chunk)->rows);
  }
  return true;
}

absl::Status Submission::ReportBadLine(const BadLine& line) {
  ++num_bad_lines_;
  const std::string as_json = FormatLineError(line.line_number, line.custom_id, line.error);
  if (num_bad_lines_ <= kMaxReportedLines) {
    if (json_) {
      err_ << as_json << "\n";
    } else {
      err_ << "line " << line.line_number << ": " << line.error.message << "\n";
    }
  } else if (num_bad_lines_ == kMaxReportedLines + 1 && !json_) {
    err_ << "further bad lines are counted but not shown\n";
  }
  return output_ == nullptr ? absl::OkStatus() : LocalError(output_->WriteLine(as_json));
}

}  // namespace moelight::client
