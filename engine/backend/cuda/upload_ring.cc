#include "engine/backend/cuda/upload_ring.h"

#include <algorithm>
#include <cstring>

#include "engine/backend/cuda/attention_plan.h"
#include "engine/backend/cuda/cuda_check.h"
#include "engine/backend/cuda/row_kernels.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace moelight {
namespace {

constexpr int64_t kAlignment = 16;       // of every span: what the kernel copies in one access
constexpr int64_t kBankAlignment = 256;  // keeps the parts of the mirror apart

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

int64_t BankBytes(const OpLimits& limits) {
  const int64_t num_tokens = std::max(limits.max_step_tokens, limits.max_tokens);
  const int64_t num_sequences = std::max(limits.max_step_sequences, limits.max_sequences);
  // Token ids, positions and gathered rows; the plan of attention; the lists of copied pages.
  const int64_t content =
      3 * 4 * num_tokens +
      AttentionPlan::Bytes(limits.heads, num_tokens, num_sequences, limits.max_step_pages) +
      static_cast<int64_t>(sizeof(PageCopy)) * limits.max_step_pages;
  // Every call brings at least one token, row or page in each of its up to six spans; but for the
  // smallest limits, the padding of as many as there are sequences is plenty.
  return RoundUp(content + 6 * kAlignment * (num_sequences + 16), kBankAlignment);
}

}  // namespace

int64_t UploadRing::Bytes(const OpLimits& limits) { return 2 * BankBytes(limits); }

absl::Status UploadRing::Reserve(const OpLimits& limits, char* mirror) {
  // Spans of a step are few: some for each micro-batch, and micro-batches have at least one
  // sequence.
  constexpr int64_t kMaxEntries = 4096;
  bank_bytes_ = BankBytes(limits);
  pinned_ = nullptr;
  ASSIGN_OR_RETURN(pinned_, PinnedBuffer::Allocate("uploads", 2 * bank_bytes_));
  mirror_ = mirror;
  for (int i = 0; i < 2; ++i) {
    banks_[i].begin = i * bank_bytes_;
    banks_[i].entries.reserve(kMaxEntries);
    Reset(banks_[i]);
  }
  current_ = 0;
  has_ahead_ = false;
  is_ahead_ = false;
  return absl::OkStatus();
}

void UploadRing::Reset(Bank& bank) {
  bank.used_bytes = 0;
  bank.entries.clear();
}

void UploadRing::BeginStep() {
  current_ = 1 - current_;
  if (!has_ahead_) Reset(banks_[current_]);
  has_ahead_ = false;
  is_ahead_ = false;
}

void UploadRing::BeginAhead() {
  if (!has_ahead_) Reset(banks_[1 - current_]);
  has_ahead_ = true;
  is_ahead_ = true;
}

absl::StatusOr<const void*> UploadRing::Upload(const void* key, const void* data, int64_t bytes,
                                               cudaStream_t stream) {
  CHECK(pinned_ != nullptr) << "ops need Reserve()";
  const int64_t padded_bytes = RoundUp(bytes, kAlignment);
  CHECK_LE(padded_bytes, bank_bytes_) << "the spans of a call are beyond Reserve()";
  Bank& bank = this->bank();
  // What all layers ask for again was mostly brought last.
  for (auto it = bank.entries.rbegin(); it != bank.entries.rend(); ++it) {
    if (it->key == key && it->bytes == bytes && it->stream == stream &&
        std::memcmp(pinned_->data() + it->offset, data, bytes) == 0) {
      return mirror_ + it->offset;
    }
  }
  if (bank.used_bytes + padded_bytes > bank_bytes_ ||
      bank.entries.size() == bank.entries.capacity()) {
    RETURN_IF_ERROR(CudaStatus(cudaDeviceSynchronize(), "wait for room for uploads"));
    Reset(bank);
  }
  const int64_t offset = bank.begin + bank.used_bytes;
  std::memcpy(pinned_->data() + offset, data, bytes);
  RETURN_IF_ERROR(CudaStatus(
      LaunchCopySmall(pinned_->data() + offset, mirror_ + offset, padded_bytes, stream), "upload"));
  bank.used_bytes += padded_bytes;
  bank.entries.push_back({key, stream, bytes, offset});
  return mirror_ + offset;
}

}  // namespace moelight
