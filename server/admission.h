// Admission: whether new work may come in, and which rows of it are good.
//
// It holds the daemon's phase, hands out the engine once it is loaded, checks rows before they are
// stored, and bounds the bytes of rows that were received and are not yet on disk.
//
// Threads: all of it is thread-safe; nothing blocks.
// Errors: Unavailable while loading or draining.
#ifndef MOELIGHT_SERVER_ADMISSION_H_
#define MOELIGHT_SERVER_ADMISSION_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <utility>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/base/mutex.h"
#include "engine/engine.h"
#include "moelight/v1/batch_job.pb.h"
#include "server/job_store.h"

namespace moelight {

// Bytes shared by all append calls. A call waits its turn without a thread.
class ByteBudget {
 public:
  explicit ByteBudget(int64_t capacity) : capacity_(capacity) {}

  // Calls `granted` once `bytes` are free, in order of arrival: at once on this thread, or later on
  // a thread that releases. More than the capacity counts as the capacity.
  void Acquire(int64_t bytes, std::function<void()> granted);
  void Release(int64_t bytes);
  int64_t used() const;

 private:
  struct Waiter {
    int64_t bytes;
    std::function<void()> granted;
  };

  const int64_t capacity_;
  mutable Mutex mutex_;
  int64_t used_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
};

enum class Phase : uint8_t { kLoading, kServing, kDraining };

// Why work was turned away: values of admission_rejected_total's label.
inline constexpr absl::string_view kRejectLoading = "loading";
inline constexpr absl::string_view kRejectDraining = "draining";
inline constexpr absl::string_view kRejectInvalid = "invalid";
inline constexpr absl::string_view kRejectLimit = "limit";
inline constexpr absl::string_view kRejectUnauthenticated = "unauthenticated";
inline constexpr absl::string_view kRejectForbidden = "forbidden";

struct AdmissionOptions {
  int64_t row_bytes = 1 << 20;                              // server.limits.row_bytes
  int64_t append_buffer = 24 << 20;                         // server.limits.append_buffer
  int32_t expected_output_tokens = 128;                     // engine.expected_output_tokens
  std::function<void(absl::string_view reason)> on_reject;  // must not block
};

class Admission {
 public:
  explicit Admission(AdmissionOptions options)
      : options_(std::move(options)), append_budget_(options_.append_buffer) {}

  // Loading -> serving -> draining; never back. `engine` must outlive all calls.
  void StartServing(Engine& engine);
  void StartDraining();
  Phase phase() const { return phase_.load(std::memory_order_acquire); }

  // Null while loading.
  Engine* engine() const { return engine_.load(std::memory_order_acquire); }
  // The engine if new work may come in, otherwise Unavailable.
  absl::StatusOr<Engine*> Admit() const;

  // What is to be stored for a row. A bad row carries its refusal; one that is too large is reduced
  // to its custom_id, so that a job of bad rows does not fill the disk.
  AppendRow CheckRow(v1::BatchRequest request, const v1::SamplingParams& job_defaults,
                     int32_t vocab_size) const;
  // Sampling parameters, labels, names and priority of a job to create.
  absl::Status CheckJob(const v1::CreateBatchJobRequest& request, int32_t vocab_size) const;

  // Counts work that was turned away for `status`.
  void CountRejected(const absl::Status& status) const;

  ByteBudget& append_budget() { return append_budget_; }
  const ByteBudget& append_budget() const { return append_budget_; }

 private:
  const AdmissionOptions options_;
  ByteBudget append_budget_;
  std::atomic<Engine*> engine_ = nullptr;
  std::atomic<Phase> phase_ = Phase::kLoading;
};

// Exact for token ids, a quarter of the bytes for text: about right for English, and a limit needs
// no more.
int64_t EstimatePromptTokens(const v1::Prompt& prompt);

// Of all choices together, where `expected` tokens are the usual answer.
int64_t EstimateOutputTokens(const v1::SamplingParams& sampling, int32_t expected);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_ADMISSION_H_
