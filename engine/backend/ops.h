// The ops that a backend provides, each with one argument struct.
//
// "act" is Backend::activation_dtype(). Shapes are row-major. Views that must not alias say so; x
// and y of one op never alias unless stated. Results for one token do not depend on the other
// tokens of the call: every op is batch-invariant, bit for bit, which is what makes sampling
// reproducible. The exceptions are MatMul and DenseFfn on cuda: cuBLAS chooses its kernel by the
// number of rows, so there a row is only the same up to the rounding of f32 sums.
#ifndef MOELIGHT_ENGINE_BACKEND_OPS_H_
#define MOELIGHT_ENGINE_BACKEND_OPS_H_

#include <cstdint>

#include <absl/types/span.h>

#include "engine/backend/kv_format.h"
#include "engine/backend/weight_format.h"
#include "engine/base/tensor_view.h"

namespace moelight {

// y[t] = table[token_ids[t]]
struct EmbedArgs {
  absl::Span<const int32_t> token_ids;  // [num_tokens], each in [0, vocab_size)
  TensorView table;                     // [vocab_size, hidden_size] f32 or bf16
  TensorView y;                         // [num_tokens, hidden_size] act
};

// y[t] = x[t] / sqrt(mean(x[t]^2) + epsilon) * weight          (Zhang & Sennrich 2019, eq. 4)
struct RmsNormArgs {
  TensorView x;       // [num_tokens, hidden_size] act
  TensorView weight;  // [hidden_size] f32
  float epsilon = 0;
  TensorView y;  // [num_tokens, hidden_size] act; may be x
};

// y = x * w^T, or y += x * w^T with `accumulate`.
struct MatMulArgs {
  TensorView x;         // [num_tokens, w.num_cols] act
  WeightMatrix weight;  // [w.num_rows, w.num_cols]
  TensorView y;         // [num_tokens, w.num_rows] act
  bool accumulate = false;
};

// How the columns of a fused qkv row are cut: all query heads, then key heads, then value heads.
struct HeadGeometry {
  int32_t num_attention_heads = 0;
  int32_t num_key_value_heads = 0;
  int32_t head_dim = 0;

  int64_t q_size() const { return int64_t{num_attention_heads} * head_dim; }
  int64_t kv_size() const { return int64_t{num_key_value_heads} * head_dim; }
  int64_t qkv_size() const { return q_size() + 2 * kv_size(); }
};

// In place on q and k: optional RMS norm of every head, then rotary embedding in the half-split
// form of Hugging Face checkpoints: (a, b) -> (a cos - b sin, b cos + a sin) for a = x[i], b = x[i
// + D/2].
struct QkNormRopeArgs {
  TensorView qkv;  // [num_tokens, qkv_size] act
  HeadGeometry heads;
  absl::Span<const int32_t> positions;  // [num_tokens]
  TensorView q_norm;                    // [head_dim] f32, or undefined: no norm
  TensorView k_norm;                    // [head_dim] f32, or undefined
  float epsilon = 0;
  TensorView inv_freq;  // [head_dim / 2] f32: angle of pair i is position*inv_freq[i]
};

// One layer of the paged KV cache. A page holds `page_tokens` consecutive positions of one
// sequence: [2 (K, V)][num_key_value_heads] blocks, which kv_format.h describes.
struct KvLayerView {
  void* data = nullptr;  // [num_pages] pages
  DType dtype = DType::kF32;
  int64_t num_pages = 0;
  int32_t page_tokens = 0;

  int64_t block_bytes(const HeadGeometry& heads) const {
    return page_tokens * KvRowBytes(dtype, heads.head_dim);
  }
  int64_t page_bytes(const HeadGeometry& heads) const {
    return 2 * heads.num_key_value_heads * block_bytes(heads);
  }
};

// The new tokens of one sequence within a batch.
struct AttentionSequence {
  int32_t first_row = 0;          // of its tokens in qkv; they are consecutive
  int32_t num_tokens = 0;         // >= 1
  int32_t num_cached_tokens = 0;  // positions already in the cache; also the first new position
  const int32_t* block_table =
      nullptr;  // page ids; position p lies in page block_table[p / page_tokens]
};

// For each new token of each sequence: stores its K and V in the cache, then
// out = softmax(scale * q K^T + causal mask) V over its own and earlier positions, of which with
// `sliding_window` > 0 only the last `sliding_window` (itself included) are seen.
//
// With `soft_cap` > 0 a scaled score s becomes soft_cap * tanh(s / soft_cap) (Gemma 2, section 2).
// With `sinks` a head's softmax has one more score, sinks[head], whose value is zero (gpt-oss; Xiao
// et al. 2023, section 3.3).
struct AttentionArgs {
  TensorView qkv;  // [num_tokens, qkv_size] act, after QkNormRope
  HeadGeometry heads;
  absl::Span<const AttentionSequence> sequences;
  KvLayerView kv;
  float scale = 0;             // 1/sqrt(head_dim) unless the model says otherwise
  int32_t sliding_window = 0;  // 0: none
  TensorView out;              // [num_tokens, num_attention_heads * head_dim] act
  float soft_cap = 0;          // 0: none
  TensorView sinks = {};       // [num_attention_heads] f32, or undefined
};

// Which experts each token goes to. Written by Router, read by MoeFfn.
struct Routing {
  TensorView expert_ids;  // [num_tokens, num_experts_per_tok] i32, best first
  TensorView gates;       // [num_tokens, num_experts_per_tok] f32
  TensorView
      expert_offsets;  // [num_experts + 1] i32: slots of expert e are [offsets[e], offsets[e+1])
  TensorView slot_tokens;  // [num_tokens * num_experts_per_tok] i32: token of each slot, ascending
                           // within an expert
  TensorView token_slots;  // [num_tokens, num_experts_per_tok] i32: slot of each (token, k)
};

// logits = x * weight^T in f32; probabilities = softmax(logits); the num_experts_per_tok largest
// are kept (equal ones: lower id first) and, with norm_topk_prob, divided by their sum.
struct RouterArgs {
  TensorView x;       // [num_tokens, hidden_size] act
  TensorView weight;  // [num_experts, hidden_size] f32
  int32_t num_experts_per_tok = 0;
  bool norm_topk_prob = false;
  Routing routing;  // out
};

// One expert, or a dense layer: SwiGLU (Shazeer 2020, eq. 6).
// Ffn(x) = down * (silu(g) * u) with [g; u] = gate_up * x
struct FfnWeights {
  WeightMatrix gate_up;  // [2 * intermediate_size, hidden_size]: gate rows, then up rows
  WeightMatrix down;     // [hidden_size, intermediate_size]
};

// Where the pages of one layer's experts lie in device memory: the first `num_resident` for good
// and in one piece, the others in consecutive slots of a ring, around its end.
struct WeightPages {
  const char* storage = nullptr;  // home of the layer's experts: byte 0 of page 0, in host memory
  int64_t page_bytes = 0;         // a power of two, at least 256
  int64_t num_resident = 0;
  const char* resident = nullptr;  // of pages [0, num_resident)
  const char* ring = nullptr;
  int64_t num_ring_slots = 0;
  int64_t first_slot = 0;  // of page num_resident; below num_ring_slots

  bool defined() const { return storage != nullptr; }
  const char* Address(int64_t page) const {
    if (page < num_resident) return resident + page * page_bytes;
    const int64_t slot = first_slot + (page - num_resident);
    return ring + (slot < num_ring_slots ? slot : slot - num_ring_slots) * page_bytes;
  }
};

// y[t] += sum over k of gates[t, k] * Expert(expert_ids[t, k])(x[t]), added in the order of k.
//
// With `pages`, WeightMatrix::data of `experts` is the matrix's home in WeightPages::storage; byte
// b of the storage is read at Address(b / page_bytes) + b % page_bytes. A matrix may go over pages.
struct MoeFfnArgs {
  TensorView x;  // [num_tokens, hidden_size] act
  Routing routing;
  absl::Span<const FfnWeights> experts;  // [num_experts]
  TensorView y;                          // [num_tokens, hidden_size] act
  WeightPages pages = {};                // undefined: the matrices are where `experts` says
};

// y[t] += Ffn(x[t])
struct DenseFfnArgs {
  TensorView x;  // [num_tokens, hidden_size] act
  FfnWeights weights;
  TensorView y;  // [num_tokens, hidden_size] act
};

// y[i] = x[rows[i]]
struct GatherRowsArgs {
  TensorView x;                    // [num_tokens, row_size] act
  absl::Span<const int32_t> rows;  // [num_rows]
  TensorView y;                    // [num_rows, row_size] act
};

// Page dst_page of `dst` = page src_page of `src`, for every pair; one side may be host memory.
struct PageCopy {
  int32_t src_page = 0;
  int32_t dst_page = 0;
};
struct CopyPagesArgs {
  const void* src = nullptr;
  void* dst = nullptr;
  int64_t page_bytes = 0;  // a multiple of 4
  absl::Span<const PageCopy> pages;
};

// Sizes that bound every call, so that scratch is allocated once.
struct OpLimits {
  int64_t max_tokens = 0;     // of one call
  int64_t max_sequences = 0;  // of one call
  // Of all calls of one step, for the spans that they bring:
  int64_t max_step_tokens = 0;
  int64_t max_step_sequences = 0;
  int64_t max_step_pages = 0;  // entries of block tables, and pages that are copied
  int64_t hidden_size = 0;
  int64_t max_intermediate_size = 0;  // of an expert or a dense layer
  int64_t num_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t max_model_len = 0;
  int64_t max_matmul_rows = 0;  // largest num_rows of a MatMul weight
  HeadGeometry heads;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_OPS_H_
