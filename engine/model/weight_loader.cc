#include "engine/model/weight_loader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <absl/types/span.h>

#include "engine/base/check.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/model/tensor_source.h"

namespace moelight {
namespace {

using Clock = std::chrono::steady_clock;

// Elements of one piece of work: 4 MiB as f32, so that a piece lives in the L2 cache or close to
// it, and is still large enough for a disk.
constexpr int64_t kPieceElements = int64_t{1} << 20;
// Rows of a piece are a multiple of this where possible, so that two threads do not write into the
// same block of a blocked format.
constexpr int64_t kPieceRows = 64;
constexpr std::chrono::seconds kProgressInterval(3);
constexpr uint64_t kDummySeed = 0;

float ToFloat(float value) { return value; }
float ToFloat(BFloat16 value) { return value.ToFloat(); }
float ToFloat(Float16 value) { return value.ToFloat(); }

template <typename To, typename From>
void Convert(const TensorView& rows, void* out) {
  const From* from = static_cast<const From*>(rows.data);
  To* to = static_cast<To*>(out);
  const int64_t n = rows.num_elements();
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<To, float>) {
      to[i] = ToFloat(from[i]);
    } else {
      to[i] = To::FromFloat(ToFloat(from[i]));
    }
  }
}

template <typename To>
void ConvertTo(const TensorView& rows, void* out) {
  switch (rows.dtype) {
    case DType::kF32:
      return Convert<To, float>(rows, out);
    case DType::kBF16:
      return Convert<To, BFloat16>(rows, out);
    case DType::kF16:
      return Convert<To, Float16>(rows, out);
    case DType::kI32:
    case DType::kI8:
      CHECK(false) << "weights are not integers";
  }
}

// A run of rows of one part.
struct Piece {
  const WeightPart* part = nullptr;
  int64_t row = 0;
  int64_t num_rows = 0;

  int64_t num_elements() const { return num_rows * part->num_cols; }
};

void Store(const TensorView& rows, const Piece& piece) {
  const WeightPart& part = *piece.part;
  const int64_t stored_row = part.stored_row + piece.row;
  if (part.format != nullptr) {
    part.format->pack(rows, stored_row, part.stored_num_rows, part.stored);
    return;
  }
  char* out = part.stored + stored_row * part.num_cols * DTypeBytes(part.dtype);
  if (part.dtype == rows.dtype) {
    std::memcpy(out, rows.data, static_cast<size_t>(rows.bytes()));
  } else if (part.dtype == DType::kF32) {
    ConvertTo<float>(rows, out);
  } else {
    ConvertTo<BFloat16>(rows, out);
  }
}

std::vector<Piece> CutIntoPieces(const std::vector<WeightPart>& parts) {
  std::vector<Piece> pieces;
  for (const WeightPart& part : parts) {
    int64_t step = std::max<int64_t>(1, kPieceElements / part.num_cols);
    if (step > kPieceRows) step -= step % kPieceRows;
    for (int64_t row = 0; row < part.num_rows; row += step) {
      pieces.push_back({&part, row, std::min(step, part.num_rows - row)});
    }
  }
  return pieces;
}

// The threads of one load. They take pieces in order until there are none or one fails.
class PieceLoader {
 public:
  PieceLoader(const TensorSource& source, std::vector<Piece> pieces, int64_t bytes, Logger& logger)
      : source_(source), pieces_(std::move(pieces)), bytes_(bytes), logger_(logger) {
    for (const Piece& piece : pieces_) {
      total_elements_ += piece.num_elements();
      max_elements_ = std::max(max_elements_, piece.num_elements());
    }
  }

  absl::Status Run(int num_threads) {
    const Clock::time_point begin = Clock::now();
    std::vector<std::thread> threads = Start(num_threads);
    {
      MutexLock lock(&mutex_);
      while (!finished_.WaitFor(lock, kProgressInterval, [this]() { return num_running_ == 0; })) {
        LogProgress(begin);
      }
    }
    for (std::thread& thread : threads) thread.join();
    if (threads.empty()) return absl::ResourceExhaustedError("cannot start a thread to load with");
    MutexLock lock(&mutex_);
    return status_;
  }

 private:
  struct alignas(64) CacheLine {
    std::byte bytes[64];
  };

  std::vector<std::thread> Start(int num_threads) {
    const int count = static_cast<int>(
        std::min<int64_t>(std::max(1, num_threads), static_cast<int64_t>(pieces_.size())));
    std::vector<std::thread> threads;
    threads.reserve(count);
    MutexLock lock(&mutex_);
    try {
      for (int i = 0; i < count; ++i) {
        threads.emplace_back([this]() { Work(); });
        ++num_running_;
      }
    } catch (const std::system_error&) {
      // Those that started do all the work.
    }
    return threads;
  }

  void Work() {
    const size_t lines = static_cast<size_t>(max_elements_) * sizeof(float) / sizeof(CacheLine) + 1;
    std::vector<CacheLine> scratch(lines);
    absl::Status status;
    while (status.ok() && !stop_.load(std::memory_order_relaxed)) {
      const size_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= pieces_.size()) break;
      status = Load(pieces_[i], scratch[0].bytes);
    }
    MutexLock lock(&mutex_);
    if (!status.ok()) {
      stop_.store(true, std::memory_order_relaxed);
      status_.Update(status);
    }
    if (--num_running_ == 0) finished_.NotifyAll();
  }

  absl::Status Load(const Piece& piece, std::byte* scratch) {
    ASSIGN_OR_RETURN(const TensorView rows,
                     source_.ReadRows(*piece.part, piece.row, piece.num_rows, scratch));
    Store(rows, piece);
    done_elements_.fetch_add(piece.num_elements(), std::memory_order_relaxed);
    return absl::OkStatus();
  }

  void LogProgress(Clock::time_point begin) {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    const double done = static_cast<double>(done_elements_.load(std::memory_order_relaxed)) /
                        static_cast<double>(total_elements_);
    if (done == 0) return;
    logger_.Info("loading_weights",
                 {{"percent", static_cast<int>(100 * done)},
                  {"gb_per_s", done * static_cast<double>(bytes_) / seconds / 1e9},
                  {"eta_seconds", static_cast<int64_t>(seconds / done - seconds)}});
  }

  const TensorSource& source_;
  const std::vector<Piece> pieces_;
  const int64_t bytes_;  // of the arena, for the log
  Logger& logger_;
  int64_t total_elements_ = 0;
  int64_t max_elements_ = 0;  // of one piece
  std::atomic<size_t> next_ = 0;
  std::atomic<int64_t> done_elements_ = 0;
  std::atomic<bool> stop_ = false;
  Mutex mutex_;
  CondVar finished_;
  int num_running_ = 0;  // guarded by mutex_
  absl::Status status_;  // guarded by mutex_; the first error
};

}  // namespace

absl::StatusOr<LoadFormat> ParseLoadFormat(absl::string_view text) {
  if (text == "auto" || text == "safetensors") return LoadFormat::kSafetensors;
  if (text == "dummy") return LoadFormat::kDummy;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is not a load format: auto, safetensors, dummy"));
}

absl::StatusOr<std::unique_ptr<ModelWeights>> LoadWeights(const std::string& folder,
                                                          const ModelConfig& config,
                                                          const WeightLayout& layout,
                                                          LoadFormat format, int num_threads,
                                                          Logger& logger) {
  const Clock::time_point begin = Clock::now();
  ASSIGN_OR_RETURN(const std::unique_ptr<TensorSource> source,
                   format == LoadFormat::kDummy ? MakeDummySource(config, kDummySeed)
                                                : OpenCheckpointSource(folder, config));
  const WeightPlan dry = PlanWeights(config, layout, source->names(), nullptr, nullptr);
  RETURN_IF_ERROR(source->Check(dry.parts, logger));

  const WeightSizes sizes = SizeWeights(config, layout);
  ASSIGN_OR_RETURN(WeightArena arena, WeightArena::Create(sizes.bytes()));
  WeightPlan plan =
      PlanWeights(config, layout, source->names(), arena.data(), arena.data() + sizes.common_bytes);
  PieceLoader loader(*source, CutIntoPieces(plan.parts), arena.bytes(), logger);
  RETURN_IF_ERROR(loader.Run(num_threads));

  auto weights = std::make_unique<ModelWeights>(std::move(plan.weights));
  weights->arena = std::move(arena);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  logger.Info("weights_loaded",
              {{"folder", folder},
               {"load_format", format == LoadFormat::kDummy ? "dummy" : "safetensors"},
               {"bytes", weights->bytes},
               {"seconds", seconds},
               {"gb_per_s", static_cast<double>(weights->bytes) / seconds / 1e9}});
  return weights;
}

}  // namespace moelight
