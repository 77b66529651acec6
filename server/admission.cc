#include "server/admission.h"

#include <algorithm>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "server/client_weights.h"
#include "server/convert.h"

namespace moelight {
namespace {

// Limits of the protocol's texts, as the comments in batch_job.proto state them.
constexpr size_t kMaxCustomIdBytes = 256;
constexpr size_t kMaxDisplayNameBytes = 256;
constexpr size_t kMaxRequestIdBytes = 64;
constexpr size_t kMaxLabelBytes = 64;
constexpr int kMaxLabels = 16;
constexpr int32_t kMaxPriority = 100;

absl::Status CheckBytes(absl::string_view field, size_t bytes, size_t limit) {
  if (bytes <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", bytes, " bytes, limit ", limit));
}

}  // namespace

void ByteBudget::Acquire(int64_t bytes, std::function<void()> granted) {
  bytes = std::min(bytes, capacity_);
  {
    MutexLock lock(&mutex_);
    if (!waiters_.empty() || used_ + bytes > capacity_) {
      waiters_.push_back({bytes, std::move(granted)});
      return;
    }
    used_ += bytes;
  }
  granted();
}

void ByteBudget::Release(int64_t bytes) {
  std::vector<Waiter> ready;
  {
    MutexLock lock(&mutex_);
    used_ -= std::min(bytes, capacity_);
    while (!waiters_.empty() && used_ + waiters_.front().bytes <= capacity_) {
      used_ += waiters_.front().bytes;
      ready.push_back(std::move(waiters_.front()));
      waiters_.pop_front();
    }
  }
  for (const Waiter& waiter : ready) waiter.granted();
}

int64_t ByteBudget::used() const {
  MutexLock lock(&mutex_);
  return used_;
}

void Admission::StartServing(Engine& engine) {
  engine_.store(&engine, std::memory_order_release);
  // A drain that came while the model was loading must stay.
  Phase loading = Phase::kLoading;
  phase_.compare_exchange_strong(loading, Phase::kServing);
}

void Admission::StartDraining() { phase_.store(Phase::kDraining, std::memory_order_release); }

absl::StatusOr<Engine*> Admission::Admit() const {
  switch (phase()) {
    case Phase::kServing:
      return engine();
    case Phase::kLoading:
      options_.on_reject(kRejectLoading);
      return absl::UnavailableError("the model is being loaded, try again");
    case Phase::kDraining:
      break;
  }
  options_.on_reject(kRejectDraining);
  return absl::UnavailableError("the daemon is stopping, try again after its restart");
}

AppendRow Admission::CheckRow(v1::BatchRequest request, const v1::SamplingParams& job_defaults,
                              int32_t vocab_size) const {
  AppendRow row;
  absl::Status status = CheckBytes("custom_id", request.custom_id().size(), kMaxCustomIdBytes);
  const int64_t row_bytes = request.ByteSizeLong();
  if (row_bytes > options_.row_bytes) {
    status = absl::ResourceExhaustedError(absl::StrCat(
        "row has ", row_bytes, " bytes, limit ", options_.row_bytes, " (server.limits.row_bytes)"));
    request.clear_prompt();
    request.clear_sampling();
    if (request.custom_id().size() > kMaxCustomIdBytes) request.clear_custom_id();
  }
  const v1::SamplingParams sampling = MergeSampling(request.sampling(), job_defaults);
  if (status.ok()) {
    status = ToGenerateRequest(request.prompt(), sampling, vocab_size).status();
  }
  if (!status.ok()) {
    CountRejected(status);
    row.refusal = ToRpcStatus(status);
  } else {
    row.estimated_prompt_tokens = EstimatePromptTokens(request.prompt());
    row.estimated_output_tokens = EstimateOutputTokens(sampling, options_.expected_output_tokens);
  }
  row.request = std::move(request);
  return row;
}

absl::Status Admission::CheckJob(const v1::CreateBatchJobRequest& request,
                                 int32_t vocab_size) const {
  const v1::BatchJob& job = request.job();
  RETURN_IF_ERROR(CheckBytes("request_id", request.request_id().size(), kMaxRequestIdBytes));
  RETURN_IF_ERROR(CheckBytes("job.display_name", job.display_name().size(), kMaxDisplayNameBytes));
  RETURN_IF_ERROR(CheckBytes("job.client", job.client().size(), kMaxClientBytes));
  if (job.priority() < -kMaxPriority || job.priority() > kMaxPriority) {
    return absl::InvalidArgumentError(absl::StrCat(
        "job.priority: is ", job.priority(), ", must be ", -kMaxPriority, " to ", kMaxPriority));
  }
  if (job.labels_size() > kMaxLabels) {
    return absl::InvalidArgumentError(
        absl::StrCat("job.labels: ", job.labels_size(), " labels, limit ", kMaxLabels));
  }
  for (const auto& [key, value] : job.labels()) {
    RETURN_IF_ERROR(CheckBytes("job.labels", std::max(key.size(), value.size()), kMaxLabelBytes));
  }
  const absl::Status sampling = ToSamplingParams(job.default_sampling(), vocab_size).status();
  if (!sampling.ok()) {
    return absl::Status(sampling.code(), absl::StrCat("job.default_", sampling.message()));
  }
  return absl::OkStatus();
}

void Admission::CountRejected(const absl::Status& status) const {
  if (absl::IsInvalidArgument(status)) options_.on_reject(kRejectInvalid);
  if (absl::IsResourceExhausted(status)) options_.on_reject(kRejectLimit);
}

int64_t EstimatePromptTokens(const v1::Prompt& prompt) {
  constexpr int64_t kBytesPerToken = 4;
  int64_t bytes = prompt.text().size();
  if (prompt.has_token_ids()) return prompt.token_ids().ids_size();
  for (const v1::ChatMessage& message : prompt.chat().messages()) {
    bytes += message.content().size() + message.reasoning_content().size() +
             message.tool_calls_json().size();
  }
  bytes += prompt.chat().tools_json().size();
  return (bytes + kBytesPerToken - 1) / kBytesPerToken;
}

int64_t EstimateOutputTokens(const v1::SamplingParams& sampling, int32_t expected) {
  int64_t tokens = std::max(expected, sampling.min_tokens());
  if (sampling.has_max_tokens()) {
    tokens = sampling.ignore_eos() ? sampling.max_tokens()
                                   : std::min<int64_t>(tokens, sampling.max_tokens());
  }
  return tokens * std::max(1, sampling.n());
}

}  // namespace moelight
