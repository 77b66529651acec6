#include <fstream>
#include <limits>
#include <memory>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <absl/time/clock.h>

#include "client/commands/command.h"
#include "client/render.h"
#include "client/result_writer.h"
#include "client/sampling_options.h"
#include "client/submission.h"
#include "client/wait.h"
#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

// What the limits mean to a row. A message holds one row at least, with some bytes around it.
constexpr char kRowBytesLimit[] = "server.limits.row_bytes";
constexpr char kMessageBytesLimit[] = "server.limits.message_bytes";
constexpr int64_t kMessageOverheadBytes = 1024;

constexpr int64_t kMaxPriority = 100;  // of the protocol

// One run of the command.
class Submit {
 public:
  explicit Submit(CommandContext& context)
      : context_(context),
        environment_(context.environment),
        stop_(context.environment.stop),
        path_(context.args.positionals()[0]) {}

  absl::StatusOr<ExitCode> Run() {
    RETURN_IF_ERROR(CheckArguments());
    ASSIGN_OR_RETURN(sampling_, ReadSamplingOptions(context_.args));
    ASSIGN_OR_RETURN(std::istream * in, OpenInput());
    ASSIGN_OR_RETURN(model_, context_.client.Model(stop_));
    RETURN_IF_ERROR(OpenOutput());
    submission_ = std::make_unique<Submission>(*in, FileOptions(), environment_.err, output_.get(),
                                               context_.json);
    ASSIGN_OR_RETURN(const bool has_rows, submission_->ReadAhead());
    if (!has_rows) return NothingToSubmit();
    ASSIGN_OR_RETURN(v1::BatchJob job, OpenJob());
    job_id_ = job.job_id();
    RETURN_IF_ERROR(HintOnResumption(Fill(job)));
    AnnounceAccepted(job);
    return context_.args.Has("wait") ? Wait(job) : FinishWithoutWait(job);
  }

 private:
  absl::Status CheckArguments() const {
    const ParsedArgs& args = context_.args;
    if (args.Has("output") && !args.Has("wait")) {
      return UsageError("-o needs --wait; later on, `moelight results JOB -o FILE` does the same");
    }
    if (args.Has("resume") && path_ == "-") {
      return UsageError("--resume needs a file: standard input cannot be read again");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::istream*> OpenInput() {
    if (path_ == "-") return &environment_.in;
    file_.open(path_, std::ios::binary);
    // Opening a folder succeeds; reading from it does not.
    if (!file_.is_open() || (file_.peek(), file_.bad())) {
      return LocalError(absl::FailedPreconditionError(absl::StrCat("cannot read ", path_)));
    }
    file_.clear();
    return &file_;
  }

  absl::Status OpenOutput() {
    const std::optional<std::string> path = context_.args.Get("output");
    if (!path.has_value()) return absl::OkStatus();
    absl::StatusOr<std::unique_ptr<OutputFile>> file = OutputFile::Open(*path, environment_.out);
    RETURN_IF_ERROR(LocalError(file.status()));
    output_ = *std::move(file);
    return absl::OkStatus();
  }

  BatchFileOptions FileOptions() const {
    BatchFileOptions options;
    options.parse.default_completion_tokens = !sampling_.has_max_tokens();
    const std::pair<int64_t, const char*> limits[] = {
        {model_.max_row_bytes(), kRowBytesLimit},
        {model_.max_message_bytes() - kMessageOverheadBytes, kMessageBytesLimit}};
    for (const auto& [bytes, name] : limits) {
      if (bytes <= 0 || bytes >= options.max_row_bytes) continue;
      options.max_row_bytes = bytes;
      options.max_row_limit_name = name;
    }
    return options;
  }

  absl::StatusOr<ExitCode> NothingToSubmit() {
    if (submission_->num_bad_lines() == 0) {
      return LocalError(absl::FailedPreconditionError(absl::StrCat(path_, " has no requests")));
    }
    environment_.err << "No line could be submitted, no job was made.\n";
    if (output_ != nullptr) RETURN_IF_ERROR(LocalError(output_->Commit()));
    return kRowsFailed;
  }

  // The new job, or the one to go on with.
  absl::StatusOr<v1::BatchJob> OpenJob() {
    const std::optional<std::string> resume = context_.args.Get("resume");
    if (!resume.has_value()) return CreateJob();
    ASSIGN_OR_RETURN(v1::BatchJob job, context_.client.Get(*resume, stop_));
    if (job.state() == v1::BatchJob::STATE_ACCEPTING) return job;
    return absl::FailedPreconditionError(
        absl::StrCat("job ", *resume, " is ", StateName(job.state()), " and takes no more rows"));
  }

  absl::StatusOr<v1::BatchJob> CreateJob() {
    v1::BatchJob job;
    job.set_display_name(context_.args.Get("job-name").value_or(""));
    job.set_client(context_.args.Get("client").value_or(""));
    ASSIGN_OR_RETURN(const int64_t priority,
                     context_.args.GetInt("priority", 0, -kMaxPriority, kMaxPriority));
    job.set_priority(static_cast<int32_t>(priority));
    if (sampling_.ByteSizeLong() > 0) *job.mutable_default_sampling() = sampling_;
    constexpr int64_t kMaxExpirySeconds = int64_t{10} * 365 * 24 * 3600;
    ASSIGN_OR_RETURN(const int64_t expiry,
                     context_.args.GetSeconds("expire-after", kMaxExpirySeconds));
    if (expiry > 0) {
      job.mutable_expire_time()->set_seconds(absl::ToUnixSeconds(absl::Now()) + expiry);
    }
    auto& labels = *job.mutable_labels();
    for (const std::string& text : context_.args.GetAll("label")) {
      const std::pair<std::string, std::string> label =
          absl::StrSplit(text, absl::MaxSplits('=', 1));
      labels[label.first] = label.second;
    }
    labels[kUrlLabel] = submission_->UrlLabel();
    if (model_.model().name().size() <= kMaxLabelBytes) labels[kModelLabel] = model_.model().name();
    return context_.client.CreateJob(job, stop_);
  }

  // Appends the rows and seals the job; `job` becomes the sealed one.
  absl::Status Fill(v1::BatchJob& job) {
    AppendOptions options;
    options.first_row = job.num_rows();
    if (model_.max_message_bytes() > kMessageOverheadBytes) {
      options.max_message_bytes = model_.max_message_bytes() - kMessageOverheadBytes;
    }
    RETURN_IF_ERROR(submission_->SkipRows(options.first_row));
    if (!context_.json && environment_.err_is_terminal) {
      options.on_acknowledged = [this](int64_t num_rows) {
        environment_.err << "\rsent " << WithCommas(num_rows) << " rows\x1b[K" << std::flush;
        drew_upload_ = true;
      };
    }
    absl::StatusOr<AppendResult> appended = context_.client.AppendRows(
        job_id_, [this](v1::BatchRequest& row) { return submission_->NextRow(row); }, options,
        stop_);
    if (drew_upload_) environment_.err << "\r\x1b[K" << std::flush;
    RETURN_IF_ERROR(appended.status());
    ASSIGN_OR_RETURN(job, context_.client.Seal(job_id_, submission_->num_rows(), stop_));
    num_refused_ = appended->num_refused;
    if (!context_.json) ReportRefusals(*appended);
    return absl::OkStatus();
  }

  void ReportRefusals(const AppendResult& appended) const {
    for (const v1::RefusedRow& row : appended.refused_rows) {
      environment_.err << "refused " << row.custom_id() << ": " << row.error().message() << "\n";
    }
    if (appended.num_refused > static_cast<int64_t>(appended.refused_rows.size())) {
      environment_.err << WithCommas(appended.num_refused) << " rows were refused in all\n";
    }
  }

  // A job that is not sealed keeps what it has and can be filled up later.
  absl::Status HintOnResumption(absl::Status status) const {
    if (status.ok()) return status;
    std::string hint = absl::StrCat("Job ", job_id_, " is not complete and has not started. ");
    if (path_ != "-") {
      absl::StrAppend(&hint, "Go on with `moelight submit ", path_, " --resume ", job_id_,
                      "`, or ");
    }
    absl::StrAppend(&hint, "give it up with `moelight cancel ", job_id_, "`.");
    if (absl::IsUnavailable(status)) {
      absl::StrAppend(&hint, "\n", HintFor(status, context_.client.options().server));
    }
    return WithHint(std::move(status), hint);
  }

  bool LinesOnStdout() const { return context_.args.Get("output").value_or("") == "-"; }

  void AnnounceAccepted(const v1::BatchJob& job) const {
    if (context_.json) return;
    environment_.err << WithCommas(job.num_rows()) << " rows accepted";
    if (submission_->num_bad_lines() > 0) {
      environment_.err << ", " << WithCommas(submission_->num_bad_lines()) << " bad lines left out";
    }
    environment_.err << "\n";
    if (job.deadline_unreachable()) {
      environment_.err << "warning: the job is expected to end at "
                       << LocalTime(job.estimated_end_time()) << " and expires at "
                       << LocalTime(job.expire_time())
                       << "; rows that are not done by then end without an answer\n";
    }
    // On standard output it is what scripts want: JOB=$(moelight submit FILE).
    (LinesOnStdout() ? environment_.err : environment_.out) << job.job_id() << std::endl;
  }

  absl::StatusOr<ExitCode> Wait(const v1::BatchJob& sealed) {
    std::optional<ResultWriter> writer;
    if (output_ != nullptr) {
      writer.emplace(*output_, ResultFormatter(sealed, model_.model().name()),
                     [this](int64_t row) -> std::optional<RowKind> {
                       if (row < 0 || row >= submission_->num_rows()) return std::nullopt;
                       return submission_->KindOfRow(row);
                     });
    }
    const JobCallback no_progress = [](const v1::BatchJob&) {};
    ASSIGN_OR_RETURN(v1::BatchJob job,
                     WaitForJob(context_, job_id_, writer.has_value() ? &*writer : nullptr,
                                context_.json ? no_progress : JobCallback()));
    if (output_ != nullptr) RETURN_IF_ERROR(LocalError(output_->Commit()));
    if (context_.json) {
      (LinesOnStdout() ? environment_.err : environment_.out) << SummaryLine(job) << "\n";
    } else {
      environment_.err << SummarizeJob(job) << "\n";
    }
    return submission_->num_bad_lines() > 0 ? kRowsFailed : ExitCodeForJob(job);
  }

  absl::StatusOr<ExitCode> FinishWithoutWait(const v1::BatchJob& job) const {
    if (context_.json) {
      environment_.out << SummaryLine(job) << "\n";
    } else if (submission_->has_both_kinds() &&
               job.labels().find(kUrlLabel)->second != kMixedUrls) {
      environment_.err << "Rows of both URLs: only --wait -o writes each as its own kind, "
                          "`moelight results` takes all for that of the first.\n";
    }
    return submission_->num_bad_lines() + num_refused_ > 0 ? kRowsFailed : kDone;
  }

  std::string SummaryLine(const v1::BatchJob& job) const {
    nlohmann::ordered_json json = JobJson(job);
    json["num_bad_lines"] = submission_->num_bad_lines();
    return ToLine(json);
  }

  CommandContext& context_;
  Environment& environment_;
  const std::stop_token stop_;
  const std::string path_;
  v1::SamplingParams sampling_;
  v1::GetModelResponse model_;
  std::ifstream file_;
  std::unique_ptr<OutputFile> output_;
  std::unique_ptr<Submission> submission_;  // after file_, which it reads
  std::string job_id_;
  int64_t num_refused_ = 0;
  bool drew_upload_ = false;
};

}  // namespace

Command SubmitCommand() {
  return {
      .name = "submit",
      .synopsis = "FILE.jsonl [--wait] [-o OUT] [--job-name NAME] ...",
      .summary = "hand in a file of OpenAI Batch lines as one job",
      .details =
          "FILE holds one request per line (custom_id, method, url, body); \"-\" is standard "
          "input. "
          "A bad\nline is reported by its number and fails alone. Prints the job's id. With --wait "
          "it follows the\njob to its end; -o then writes the output lines, and OUT appears once "
          "all are there. Ctrl-C\nwhile waiting leaves the job running.\n\nSampling options below "
          "are the job's defaults: they hold for lines that leave the field unset.",
      .options = WithSamplingOptions(
          {{"wait", 'w', "", "wait for the job to end and show its progress"},
           {"output", 'o', "OUT",
            "with --wait: write output lines to OUT, \"-\" for standard output"},
           {"job-name", '\0', "NAME", "a name for people"},
           {"label", '\0', "KEY=VALUE", "a label; may be repeated"},
           {"client", '\0', "NAME", "whom the job is accounted to; clients share the machine"},
           {"priority", '\0', "N", "before all jobs with a lower one, -100 to 100; default 0"},
           {"expire-after", '\0', "DURATION",
            "end the job then, done or not: 90s, 15m, 12h, 7d; without a unit seconds"},
           {"resume", '\0', "JOB", "go on filling a job whose submission broke off"}}),
      .min_positionals = 1,
      .max_positionals = 1,
      .run = [](CommandContext& context) { return Submit(context).Run(); }};
}

}  // namespace moelight::client
