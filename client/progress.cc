#include "client/progress.h"

#include <algorithm>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "client/client.h"
#include "client/render.h"

namespace moelight::client {
namespace {

constexpr absl::Duration kRateWindow = absl::Seconds(10);
constexpr int kMinBarCells = 10;
constexpr int kMaxBarCells = 30;

int64_t RowsDone(const v1::BatchJob& job) {
  return job.num_succeeded() + job.num_failed() + job.num_cancelled();
}

std::string Bar(double share, int cells) {
  const int filled = std::clamp(static_cast<int>(share * cells), 0, cells);
  return absl::StrCat("[", std::string(filled, '#'), std::string(cells - filled, '.'), "]");
}

}  // namespace

Progress::Progress(std::ostream& out, const ProgressOptions& options)
    : out_(out), options_(options) {}

void Progress::Update(const v1::BatchJob& job, absl::Time now) {
  AddSample(job, now);
  if (options_.terminal) {
    DrawBar(job);
  } else {
    PrintLine(job, now);
  }
}

void Progress::Finish() {
  if (bar_drawn_) out_ << "\n" << std::flush;
  bar_drawn_ = false;
}

void Progress::AddSample(const v1::BatchJob& job, absl::Time now) {
  samples_.push_back({now, RowsDone(job), job.generated_tokens()});
  // Keeps one sample that is older than the window, so that the rates cover all of it.
  while (samples_.size() > 2 && now - samples_[1].time >= kRateWindow) samples_.pop_front();
}

std::optional<Progress::Rates> Progress::MeasuredRates() const {
  if (samples_.size() < 2) return std::nullopt;
  const Sample& first = samples_.front();
  const Sample& last = samples_.back();
  const double seconds = absl::ToDoubleSeconds(last.time - first.time);
  if (seconds <= 0) return std::nullopt;
  return Rates{(last.rows_done - first.rows_done) / seconds,
               (last.generated_tokens - first.generated_tokens) / seconds};
}

std::string Progress::Describe(const v1::BatchJob& job) const {
  const int64_t done = RowsDone(job);
  const int64_t total = job.num_rows();
  std::string text = absl::StrFormat("%d/%d rows", done, total);
  if (total > 0) absl::StrAppendFormat(&text, " %d%%", 100 * done / total);
  if (job.num_failed() > 0) absl::StrAppendFormat(&text, ", %d failed", job.num_failed());
  if (job.num_cancelled() > 0) absl::StrAppendFormat(&text, ", %d cancelled", job.num_cancelled());
  if (HasEnded(job.state())) return text;
  if (job.deadline_unreachable()) absl::StrAppend(&text, ", expires before its end");
  const std::optional<Rates> rates = MeasuredRates();
  if (!rates.has_value()) return text;
  absl::StrAppend(&text, ", ", WithCommas(static_cast<int64_t>(rates->tokens_per_second)),
                  " tok/s");
  if (rates->rows_per_second > 0 && done < total) {
    absl::StrAppend(&text, ", ETA ",
                    ClockTime(absl::Seconds((total - done) / rates->rows_per_second)));
  }
  return text;
}

void Progress::DrawBar(const v1::BatchJob& job) {
  const std::string head = absl::StrCat(job.job_id(), " ", StateName(job.state()), " ");
  const std::string tail = absl::StrCat(" ", Describe(job));
  // One column stays free: a full line would wrap and could not be redrawn.
  const int room = options_.columns - 1;
  const int cells = std::min(kMaxBarCells, room - static_cast<int>(head.size() + tail.size()) - 2);
  const double share =
      job.num_rows() == 0 ? 0 : static_cast<double>(RowsDone(job)) / job.num_rows();
  std::string line = cells >= kMinBarCells ? absl::StrCat(head, Bar(share, cells), tail)
                                           : absl::StrCat(StateName(job.state()), tail);
  line.resize(std::min<size_t>(line.size(), std::max(room, 0)));
  // To the start of the line, the text, then whatever is left of the longer text before goes.
  out_ << "\r" << line << "\x1b[K" << std::flush;
  bar_drawn_ = true;
}

void Progress::PrintLine(const v1::BatchJob& job, absl::Time now) {
  if (job.state() == printed_state_ && now - printed_at_ < options_.line_interval) return;
  printed_state_ = job.state();
  printed_at_ = now;
  out_ << job.job_id() << " " << StateName(job.state()) << ": " << Describe(job) << "\n"
       << std::flush;
}

}  // namespace moelight::client
