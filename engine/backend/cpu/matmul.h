// The MatMul op of the cpu backend.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_MATMUL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_MATMUL_H_

#include "engine/backend/cpu/cpu_context.h"
#include "engine/backend/ops.h"

namespace moelight {

// How a product is cut into tasks of `rows` activation rows by `tiles` weight tiles.
struct MatMulSplit {
  int64_t rows = 0;
  int64_t tiles = 0;
};
MatMulSplit SplitMatMul(int64_t num_rows, int64_t num_tiles, int64_t num_cols, int num_threads);

// First of the tiles of block `block`, when tiles are cut into `num_blocks`: even, because a block
// of 32 packed columns is two tiles.
inline int64_t BlockBegin(int64_t num_tiles, int64_t num_blocks, int64_t block) {
  return std::min(num_tiles, block * ((num_tiles + 1) / 2) / num_blocks * 2);
}

int64_t MatMulPanelBytes(const OpLimits& limits, const CpuKernels& kernels);
int64_t MatMulWorkerScratchBytes();

void RunMatMul(const MatMulArgs& args, CpuContext& context);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_MATMUL_H_
