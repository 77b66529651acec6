// The kernels for amx_bf16. CMakeLists.txt gives this file its target flags; kernels.h says what
// may be included. Each of the headers below builds on the ones before.
// clang-format off
#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/simd_avx512.h"
#include "engine/backend/cpu/pairs_bf16-inl.h"
#include "engine/backend/cpu/gemm-inl.h"
#include "engine/backend/cpu/amx_gemm-inl.h"
#include "engine/backend/cpu/rows-inl.h"
#include "engine/backend/cpu/packed_rows-inl.h"
#include "engine/backend/cpu/kv_rows-inl.h"
#include "engine/backend/cpu/attention_keys-inl.h"
#include "engine/backend/cpu/attention_dots-inl.h"
#include "engine/backend/cpu/attention_pairs-inl.h"
#include "engine/backend/cpu/amx_attention-inl.h"
#include "engine/backend/cpu/attention-inl.h"
#include "engine/backend/cpu/amx_peak-inl.h"
#include "engine/backend/cpu/read-inl.h"
// clang-format on

namespace moelight {

const CpuKernels kAmxBf16Kernels = {
    .act_bytes = sizeof(Act),
    .pack = Pack,
    .gemm = Gemm,
    .attention = Attention,
    .attention_scratch_bytes = AttentionScratchSize,
    .attention_partial_floats = PartialFloats,
    .attention_merge = MergeAttention,
    .store_kv = StoreKv,
    .rope = Rope,
    .combine = Combine,
    .rms_norm = RmsNorm,
    .swiglu = Swiglu,
    .router_logits = RouterLogits,
    .softmax = Softmax,
    .bf16_to_f32 = Bf16ToF32,
    .f32_to_bf16 = F32ToBf16,
    .peak_flops = PeakFlops,
    .read_stream = ReadStream,
};

}  // namespace moelight
