// The MoeFfn and DenseFfn ops of the cpu backend.
//
// A dense layer is one expert that sees every token. Rows are cut into chunks of one expert; each
// wave of chunks packs its rows, then runs two loops over (chunk, block of columns): gate and up
// projection with SwiGLU, whose results are packed where they arise, then down projection. A last
// loop adds the experts' rows to y in the order of k.
//
// Threads: engine thread. Owns its scratch; allocates in Reserve() only.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_FFN_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_FFN_H_

#include <vector>

#include "engine/backend/cpu/cpu_context.h"
#include "engine/backend/ops.h"

namespace moelight {

class CpuFfn {
 public:
  explicit CpuFfn(CpuContext* context) : context_(context) {}

  static int64_t ScratchBytes(const OpLimits& limits);
  // Of CpuContext::Panels().
  static int64_t PanelBytes(const OpLimits& limits, const CpuKernels& kernels);
  static int64_t WorkerScratchBytes();
  absl::Status Reserve(const OpLimits& limits);

  void RunMoe(const MoeFfnArgs& args);
  void RunDense(const DenseFfnArgs& args);

 private:
  // Consecutive rows (slots of one expert, or tokens of a dense layer) that share weights.
  struct Chunk {
    const FfnWeights* weights;
    int64_t row_begin;
    int64_t num_rows;
    // The tasks of the loop that runs: blocks of consecutive weight tiles.
    int64_t first_task = 0;
    int64_t num_blocks = 0;
  };
  struct Layer {
    const float* x;
    const int32_t* row_ids;  // row r reads x[row_ids[r]]; null: x[r]
    int64_t hidden_size;
    int64_t intermediate_size;
    float* y;  // row r of the down projection
    bool accumulate;
  };

  // Cuts rows [begin, end) into chunks, running each wave as it fills.
  void AddRows(const Layer& layer, const FfnWeights& weights, int64_t begin, int64_t end);
  // Runs the chunks collected and forgets them.
  void RunWave(const Layer& layer);
  void PackWave(const Layer& layer);
  // Cuts the tiles of every chunk into blocks of at most `max_tiles`, in proportion to its work.
  void CutChunks(int64_t num_tiles, int64_t max_tiles);
  // Runs body(chunk, tile_begin, tile_end) for all tiles of all chunks.
  template <typename Body>
  void RunTasks(int64_t num_tiles, int64_t max_tiles, int64_t num_macs, const Body& body);
  void GateUp(const Layer& layer, const Chunk& chunk, int64_t tile_begin, int64_t tile_end);
  void Down(const Layer& layer, const Chunk& chunk, int64_t tile_begin, int64_t tile_end);

  CpuContext* context_;
  std::vector<Chunk> chunks_;  // of the wave
  int64_t wave_begin_ = 0;     // its first row
  int64_t wave_rows_ = 0;
  int64_t num_tasks_ = 0;
  // Panels of the wave's chunks, in the order of their rows: inputs, and outputs of SwiGLU.
  char* x_panels_ = nullptr;
  char* h_panels_ = nullptr;
  AlignedBuffer expert_rows_;  // [max_tokens * num_experts_per_tok, hidden_size] f32
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_FFN_H_
