#include "engine/backend/cpu/router.h"

#include "engine/backend/routing_slots.h"

namespace moelight {
namespace {

constexpr int64_t kBlockRows = 32;

// Takes the `num_kept` largest probabilities, of equal ones the first. Overwrites what it takes.
// Also with NaNs every id is valid, because MoeFfn indexes by them.
void TakeLargest(float* probabilities, int64_t num_experts, int64_t num_kept, bool normalize,
                 int32_t* ids, float* gates) {
  constexpr float kTaken = -1.0f;
  float sum = 0;
  for (int64_t k = 0; k < num_kept; ++k) {
    int64_t best = 0;
    while (probabilities[best] == kTaken) ++best;
    for (int64_t e = best + 1; e < num_experts; ++e) {
      if (probabilities[e] > probabilities[best]) best = e;
    }
    ids[k] = static_cast<int32_t>(best);
    gates[k] = probabilities[best];
    sum += gates[k];
    probabilities[best] = kTaken;
  }
  if (!normalize) return;
  for (int64_t k = 0; k < num_kept; ++k) gates[k] /= sum;
}

}  // namespace

int64_t RouterWorkerScratchBytes(int64_t num_experts) {
  return kBlockRows * num_experts * static_cast<int64_t>(sizeof(float));
}

void RunRouter(const RouterArgs& args, CpuContext& context) {
  const int64_t num_tokens = args.x.dim(0);
  const int64_t num_cols = args.x.dim(1);
  const int64_t num_experts = args.weight.dim(0);
  const int64_t num_kept = args.num_experts_per_tok;
  // Dot products of single rows run at about a quarter of the speed of a matrix product.
  const int64_t grain = std::max(kBlockRows, kMinTaskMacs / 4 / (num_cols * num_experts));
  context.runner.For(num_tokens, grain, [&](int64_t range_begin, int64_t range_end) {
    char* scratch = context.WorkerScratch(RouterWorkerScratchBytes(num_experts));
    float* probabilities = reinterpret_cast<float*>(scratch);
    for (int64_t begin = range_begin; begin < range_end; begin += kBlockRows) {
      const int64_t end = std::min(range_end, begin + kBlockRows);
      context.kernels.router_logits(args.x.as<float>() + begin * num_cols, end - begin, num_cols,
                                    args.weight.as<float>(), num_experts, probabilities);
      for (int64_t token = begin; token < end; ++token) {
        float* row = probabilities + (token - begin) * num_experts;
        context.kernels.softmax(row, num_experts);
        TakeLargest(row, num_experts, num_kept, args.norm_topk_prob,
                    args.routing.expert_ids.as<int32_t>() + token * num_kept,
                    args.routing.gates.as<float>() + token * num_kept);
      }
    }
  });
  FillRoutingSlots(args.routing, num_experts);
}

}  // namespace moelight
