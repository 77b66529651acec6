#include <cuda_bf16.h>

#include "engine/backend/cuda/row_kernels.h"

namespace moelight {
namespace {

constexpr int kWarpThreads = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kRowThreads = 256;  // of the kernels that give a block to each row
constexpr int kRowWarps = kRowThreads / kWarpThreads;

bool IsAligned(const void* pointer, int64_t alignment) {
  return reinterpret_cast<uintptr_t>(pointer) % alignment == 0;
}

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The sum over the lanes of a warp, the same in each.
__device__ float WarpSum(float value) {
  for (int lanes = kWarpThreads / 2; lanes > 0; lanes /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, lanes);
  }
  return value;
}

// Four consecutive elements as floats. The address is aligned to four elements.
__device__ float4 LoadFour(const float* x) { return *reinterpret_cast<const float4*>(x); }
__device__ float4 LoadFour(const __nv_bfloat16* x) {
  const uint2 bits = *reinterpret_cast<const uint2*>(x);
  return make_float4(__uint_as_float(bits.x << 16), __uint_as_float(bits.x & 0xffff0000u),
                     __uint_as_float(bits.y << 16), __uint_as_float(bits.y & 0xffff0000u));
}
__device__ float LoadOne(const float* x) { return *x; }
__device__ float LoadOne(const __nv_bfloat16* x) { return __bfloat162float(*x); }

template <typename T>
__global__ void __launch_bounds__(kRowThreads) GatherKernel(GatherParams params, bool by_four) {
  const int64_t row = params.rows[blockIdx.x];
  const T* x = static_cast<const T*>(params.x) + row * params.row_size;
  float* y = params.y + blockIdx.x * params.row_size;
  if (by_four) {
    for (int64_t i = 4 * threadIdx.x; i < params.row_size; i += 4 * kRowThreads) {
      *reinterpret_cast<float4*>(y + i) = LoadFour(x + i);
    }
  } else {
    for (int64_t i = threadIdx.x; i < params.row_size; i += kRowThreads) y[i] = LoadOne(x + i);
  }
}

__device__ float SquareSum(float4 v) { return v.x * v.x + v.y * v.y + (v.z * v.z + v.w * v.w); }

__global__ void __launch_bounds__(kRowThreads) RmsNormKernel(RmsNormParams params, bool by_four) {
  __shared__ float warp_sums[kRowWarps];
  const int64_t n = params.row_size;
  const float* x = params.x + blockIdx.x * n;
  float* y = params.y + blockIdx.x * n;
  float sum = 0;
  if (by_four) {
    for (int64_t i = 4 * threadIdx.x; i < n; i += 4 * kRowThreads)
      sum += SquareSum(LoadFour(x + i));
  } else {
    for (int64_t i = threadIdx.x; i < n; i += kRowThreads) sum += x[i] * x[i];
  }
  sum = WarpSum(sum);
  if (threadIdx.x % kWarpThreads == 0) warp_sums[threadIdx.x / kWarpThreads] = sum;
  __syncthreads();
  float total = 0;
  for (int warp = 0; warp < kRowWarps; ++warp) total += warp_sums[warp];
  const float scale = 1.0f / sqrtf(total / static_cast<float>(n) + params.epsilon);
  // Each thread writes the elements that it alone has read, so that y may be x.
  if (by_four) {
    for (int64_t i = 4 * threadIdx.x; i < n; i += 4 * kRowThreads) {
      const float4 v = LoadFour(x + i);
      const float4 w = LoadFour(params.weight + i);
      *reinterpret_cast<float4*>(y + i) =
          make_float4(v.x * scale * w.x, v.y * scale * w.y, v.z * scale * w.z, v.w * scale * w.w);
    }
  } else {
    for (int64_t i = threadIdx.x; i < n; i += kRowThreads) y[i] = x[i] * scale * params.weight[i];
  }
}

// A warp takes one head of one token.
__global__ void __launch_bounds__(kRowThreads) QkNormRopeKernel(QkNormRopeParams params) {
  const int32_t num_heads = params.num_query_heads + params.num_key_heads;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kRowWarps + threadIdx.x / kWarpThreads;
  const int lane = threadIdx.x % kWarpThreads;
  const int64_t token = item / num_heads;
  if (token >= params.num_tokens) return;
  const int32_t h = static_cast<int32_t>(item % num_heads);
  // Key heads follow the query heads in a row.
  float* head = params.qkv + token * params.qkv_size + static_cast<int64_t>(h) * params.head_dim;
  const float* norm = h < params.num_query_heads ? params.q_norm : params.k_norm;
  const int32_t half = params.head_dim / 2;
  float scale = 1.0f;
  if (norm != nullptr) {
    float sum = 0;
    for (int32_t i = lane; i < half; i += kWarpThreads) {
      sum += head[i] * head[i] + head[i + half] * head[i + half];
    }
    scale = 1.0f / sqrtf(WarpSum(sum) / static_cast<float>(params.head_dim) + params.epsilon);
  }
  const float position = static_cast<float>(params.positions[token]);
  for (int32_t i = lane; i < half; i += kWarpThreads) {
    float a = head[i];
    float b = head[i + half];
    if (norm != nullptr) {
      a = a * scale * norm[i];
      b = b * scale * norm[i + half];
    }
    float sin = 0;
    float cos = 0;
    sincosf(position * params.inv_freq[i], &sin, &cos);
    head[i] = a * cos - b * sin;
    head[i + half] = b * cos + a * sin;
  }
}

__device__ uint32_t PackBf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// Four elements a thread; the last thread takes what is left over.
__global__ void __launch_bounds__(kRowThreads)
    RoundToBf16Kernel(const float* x, __nv_bfloat16* y, int64_t num_elements, bool by_four) {
  const int64_t i = 4 * (static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x);
  if (i + 4 <= num_elements && by_four) {
    const float4 v = LoadFour(x + i);
    *reinterpret_cast<uint2*>(y + i) = make_uint2(PackBf16(v.x, v.y), PackBf16(v.z, v.w));
  } else {
    for (int64_t j = i; j < num_elements && j < i + 4; ++j) y[j] = __float2bfloat16_rn(x[j]);
  }
}

__global__ void __launch_bounds__(kRowThreads) SwiGluKernel(SwiGluParams params) {
  const int64_t n = params.intermediate_size;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (i >= params.num_tokens * n) return;
  const int64_t token = i / n;
  const float* row = params.gate_up + 2 * token * n + (i - token * n);
  const float g = row[0];
  const float u = row[n];
  // A large negative g gives -g/inf = 0.
  static_cast<__nv_bfloat16*>(params.h)[i] = __float2bfloat16_rn(g / (1.0f + expf(-g)) * u);
}

constexpr int kCopyThreads = 512;
// Words that a thread has under way at once: 32 blocks * 512 threads * 4 * 16 bytes = 1 MiB covers
// the latency of the link (about 2 us at 55 GB/s is 110 KB) several times over.
constexpr int kCopyDepth = 4;
// Enough to saturate the link; more would only take multiprocessors away from the compute lane.
constexpr int kMaxCopyBlocks = 32;

// `Word` is what one access moves; all pages are a whole number of words.
template <typename Word>
__global__ void __launch_bounds__(kCopyThreads) CopyPagesKernel(CopyPagesParams params) {
  const int64_t page_words = params.page_bytes / static_cast<int64_t>(sizeof(Word));
  const int64_t num_words = page_words * params.num_pages;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kCopyThreads;
  const Word* src = reinterpret_cast<const Word*>(params.src);
  Word* dst = reinterpret_cast<Word*>(params.dst);
  int64_t word = static_cast<int64_t>(blockIdx.x) * kCopyThreads + threadIdx.x;
  for (; word < num_words; word += kCopyDepth * stride) {
    Word values[kCopyDepth];
    int64_t targets[kCopyDepth];
#pragma unroll
    for (int i = 0; i < kCopyDepth; ++i) {
      const int64_t index = word + i * stride;
      targets[i] = -1;
      if (index >= num_words) continue;
      const int64_t page = index / page_words;
      const int64_t offset = index - page * page_words;
      values[i] = src[params.pages[2 * page] * page_words + offset];
      targets[i] = params.pages[2 * page + 1] * page_words + offset;
    }
#pragma unroll
    for (int i = 0; i < kCopyDepth; ++i) {
      if (targets[i] >= 0) dst[targets[i]] = values[i];
    }
  }
}

__global__ void __launch_bounds__(kRowThreads)
    CopySmallKernel(const uint4* src, uint4* dst, int64_t num_words) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (i < num_words) dst[i] = src[i];
}

unsigned NumBlocks(int64_t num_threads, int block_threads) {
  return static_cast<unsigned>(CeilDiv(num_threads, block_threads));
}

}  // namespace

cudaError_t LaunchGather(const GatherParams& params, cudaStream_t stream) {
  if (params.num_rows == 0 || params.row_size == 0) return cudaSuccess;
  const unsigned num_blocks = static_cast<unsigned>(params.num_rows);
  const bool by_four = params.row_size % 4 == 0 && IsAligned(params.y, 16) &&
                       IsAligned(params.x, params.x_is_bf16 ? 8 : 16);
  if (params.x_is_bf16) {
    GatherKernel<__nv_bfloat16><<<num_blocks, kRowThreads, 0, stream>>>(params, by_four);
  } else {
    GatherKernel<float><<<num_blocks, kRowThreads, 0, stream>>>(params, by_four);
  }
  return cudaGetLastError();
}

cudaError_t LaunchRmsNorm(const RmsNormParams& params, cudaStream_t stream) {
  if (params.num_rows == 0 || params.row_size == 0) return cudaSuccess;
  const bool by_four = params.row_size % 4 == 0 && IsAligned(params.x, 16) &&
                       IsAligned(params.y, 16) && IsAligned(params.weight, 16);
  RmsNormKernel<<<static_cast<unsigned>(params.num_rows), kRowThreads, 0, stream>>>(params,
                                                                                    by_four);
  return cudaGetLastError();
}

cudaError_t LaunchQkNormRope(const QkNormRopeParams& params, cudaStream_t stream) {
  const int64_t num_items = params.num_tokens * (params.num_query_heads + params.num_key_heads);
  if (num_items == 0) return cudaSuccess;
  QkNormRopeKernel<<<NumBlocks(num_items, kRowWarps), kRowThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

cudaError_t LaunchRoundToBf16(const float* x, void* y, int64_t num_elements, cudaStream_t stream) {
  if (num_elements == 0) return cudaSuccess;
  const bool by_four = IsAligned(x, 16) && IsAligned(y, 8);
  RoundToBf16Kernel<<<NumBlocks(CeilDiv(num_elements, 4), kRowThreads), kRowThreads, 0, stream>>>(
      x, static_cast<__nv_bfloat16*>(y), num_elements, by_four);
  return cudaGetLastError();
}

cudaError_t LaunchSwiGlu(const SwiGluParams& params, cudaStream_t stream) {
  const int64_t num_elements = params.num_tokens * params.intermediate_size;
  if (num_elements == 0) return cudaSuccess;
  SwiGluKernel<<<NumBlocks(num_elements, kRowThreads), kRowThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

cudaError_t LaunchCopyPages(const CopyPagesParams& params, cudaStream_t stream) {
  const int64_t bytes = params.num_pages * params.page_bytes;
  if (bytes == 0) return cudaSuccess;
  const bool by_sixteen =
      params.page_bytes % 16 == 0 && IsAligned(params.src, 16) && IsAligned(params.dst, 16);
  const int64_t num_words = bytes / (by_sixteen ? 16 : 4);
  const int64_t needed = CeilDiv(num_words, kCopyThreads);
  const unsigned num_blocks =
      static_cast<unsigned>(needed < kMaxCopyBlocks ? needed : kMaxCopyBlocks);
  if (by_sixteen) {
    CopyPagesKernel<uint4><<<num_blocks, kCopyThreads, 0, stream>>>(params);
  } else {
    CopyPagesKernel<uint32_t><<<num_blocks, kCopyThreads, 0, stream>>>(params);
  }
  return cudaGetLastError();
}

cudaError_t LaunchCopySmall(const void* src, void* dst, int64_t bytes, cudaStream_t stream) {
  const int64_t num_words = bytes / 16;
  if (num_words == 0) return cudaSuccess;
  CopySmallKernel<<<NumBlocks(num_words, kRowThreads), kRowThreads, 0, stream>>>(
      static_cast<const uint4*>(src), static_cast<uint4*>(dst), num_words);
  return cudaGetLastError();
}

}  // namespace moelight
