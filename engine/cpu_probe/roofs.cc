#include "engine/cpu_probe/roofs.h"

#include <algorithm>
#include <atomic>

#include "engine/base/check.h"
#include "engine/cpu_probe/turns.h"

namespace moelight {
namespace {

// Distances at which software prefetch hides the latency of memory: 100 ns at 10 to 40 GB/s a
// thread are 1 to 4 KiB. The hardware's own prefetcher (0) stops at the end of each 4 KiB.
constexpr int64_t kAheadBytes[] = {0, 1024, 2048, 3072, 4096};
constexpr int kAheadTurns = 3;

// Of one loop: 2 ms at 100 GB/s, a hundred times what its fork and join cost, and no more than a
// turn of one thread alone. The next loop goes on behind it, so what is read stays cold.
constexpr int64_t kMaxReadBytes = int64_t{256} << 20;
// Of one thread at a time: 50 us at 20 GB/s, so that all threads end together.
constexpr int64_t kReadPieceBytes = int64_t{1} << 20;
static_assert(kReadPieceBytes % kReadBytes == 0);

// Rounds of one piece, some 20 us; and pieces for each thread, for the same reason.
constexpr int64_t kPeakRounds = 10000;
constexpr int64_t kPeakPieces = 50;

}  // namespace

CpuRoofs::CpuRoofs(const CpuIsa& isa, const ProbeMemory& memory, double turn_seconds,
                   ParallelRunner& runner)
    : isa_(isa), memory_(memory), turn_seconds_(turn_seconds), runner_(runner) {
  CHECK_GE(memory.bytes(), kReadBytes);
  double best = 0;
  for (const int64_t ahead_bytes : kAheadBytes) {
    for (int turn = 0; turn < kAheadTurns; ++turn) {
      const double rate = ReadTurn(ahead_bytes);
      if (rate <= best) continue;
      best = rate;
      ahead_bytes_ = ahead_bytes;
    }
  }
}

double CpuRoofs::ReadTurn(int64_t ahead_bytes) {
  const int64_t turn_bytes = std::min(memory_.bytes(), kMaxReadBytes) / kReadBytes * kReadBytes;
  const double seconds = SecondsPerCall(turn_seconds_, [&] {
    if (next_begin_ + turn_bytes > memory_.bytes()) next_begin_ = 0;
    const char* const data = memory_.data() + next_begin_;
    runner_.For(turn_bytes, kReadPieceBytes, [&](int64_t begin, int64_t end) {
      isa_.kernels->read_stream(data + begin, end - begin, ahead_bytes);
    });
    next_begin_ += turn_bytes;
  });
  return static_cast<double>(turn_bytes) / seconds;
}

double CpuRoofs::ReadBytesPerSecond() { return ReadTurn(ahead_bytes_); }

double CpuRoofs::PeakFlopsPerSecond() {
  std::atomic<int64_t> flops = 0;
  int64_t num_calls = 0;
  const double seconds = SecondsPerCall(turn_seconds_, [&] {
    runner_.For(kPeakPieces * runner_.num_threads(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) flops += isa_.kernels->peak_flops(kPeakRounds);
    });
    ++num_calls;
  });
  return static_cast<double>(flops.load()) / static_cast<double>(num_calls) / seconds;
}

}  // namespace moelight
