// The kernels under the names that all headers of an instruction set give them. Included by
// isa_*.cc after those headers.
#ifndef MOELIGHT_ENGINE_BACKEND_CPU_KERNEL_TABLE_INL_H_
#define MOELIGHT_ENGINE_BACKEND_CPU_KERNEL_TABLE_INL_H_

namespace moelight {
namespace {

constexpr CpuKernels kKernels = {
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
    .peak_flops = PeakFlops,
    .read_stream = ReadStream,
};

}  // namespace
}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_CPU_KERNEL_TABLE_INL_H_
