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

// Weight tiles per task so that `num_row_chunks` chunks of rows keep all threads busy.
int64_t TilesPerTask(int64_t num_tiles, int64_t max_tiles, int64_t num_row_chunks, int num_threads);

// Needs kGemmScratchBytes of worker scratch.
void RunMatMul(const MatMulArgs& args, CpuContext& context);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_MATMUL_H_
