// CpuRoofs: what the machine gives to kernels that do nothing but read, or nothing but multiply and
// add; measured on the same threads, with the instructions of the same variant.
//
// Threads: one caller, whose runner's threads do the work. Allocates nothing.
#ifndef MOELIGHT_ENGINE_CPU_PROBE_ROOFS_H_
#define MOELIGHT_ENGINE_CPU_PROBE_ROOFS_H_

#include <cstdint>

#include "engine/backend/cpu/isa.h"
#include "engine/base/parallel.h"
#include "engine/cpu_probe/probe_memory.h"

namespace moelight {

class CpuRoofs {
 public:
  // A turn takes `turn_seconds` at least. Chooses how far ahead to prefetch, by trying: 15 turns.
  CpuRoofs(const CpuIsa& isa, const ProbeMemory& memory, double turn_seconds,
           ParallelRunner& runner);

  // One turn of each. Reads go over the memory from beginning to end, in stretches of 256 MiB.
  double ReadBytesPerSecond();
  double PeakFlopsPerSecond();

  const CpuIsa& isa() const { return isa_; }

 private:
  double ReadTurn(int64_t ahead_bytes);

  const CpuIsa& isa_;
  const ProbeMemory& memory_;
  const double turn_seconds_;
  ParallelRunner& runner_;
  int64_t next_begin_ = 0;  // of the stretch that is read next
  int64_t ahead_bytes_ = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_CPU_PROBE_ROOFS_H_
