// The kernels for avx512. CMakeLists.txt gives this file its target flags; kernels.h says what may
// be included. Each of the headers below builds on the ones before.
// clang-format off
#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/simd_avx512.h"
#include "engine/backend/cpu/pairs_f32-inl.h"
#include "engine/backend/cpu/gemm-inl.h"
#include "engine/backend/cpu/packed_gemm-inl.h"
#include "engine/backend/cpu/rows-inl.h"
#include "engine/backend/cpu/packed_rows-inl.h"
#include "engine/backend/cpu/kv_rows-inl.h"
#include "engine/backend/cpu/attention_keys-inl.h"
#include "engine/backend/cpu/attention-inl.h"
#include "engine/backend/cpu/peak-inl.h"
#include "engine/backend/cpu/read-inl.h"
#include "engine/backend/cpu/kernel_table-inl.h"
// clang-format on

namespace moelight {

const CpuKernels kAvx512Kernels = kKernels;

}  // namespace moelight
