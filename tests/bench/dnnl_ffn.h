// The matrix products of an expert by oneDNN, to compare with.
#ifndef MOELIGHT_TESTS_BENCH_DNNL_FFN_H_
#define MOELIGHT_TESTS_BENCH_DNNL_FFN_H_

#include <cstdint>
#include <memory>

namespace moelight {

// bf16 activations and weights, fp32 results. The weights lie as oneDNN likes them best for
// `num_tokens`. SwiGLU, and what turns fp32 activations into bf16, are left out.
class DnnlFfn {
 public:
  // Null where oneDNN was not found at configure time.
  static std::unique_ptr<DnnlFfn> Create(int num_threads, int64_t num_experts, int64_t hidden_size,
                                         int64_t intermediate_size, int64_t num_tokens);
  virtual ~DnnlFfn() = default;

  virtual void Run(int64_t expert) = 0;
};

}  // namespace moelight

#endif  // MOELIGHT_TESTS_BENCH_DNNL_FFN_H_
