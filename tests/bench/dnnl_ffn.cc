#include "tests/bench/dnnl_ffn.h"

#ifdef MOELIGHT_WITH_DNNL

#include <omp.h>

#include <cstring>
#include <vector>

#include <dnnl.hpp>

namespace moelight {
namespace {

using dnnl::memory;

// y = x * w, with w in the blocked format that oneDNN chooses.
class Product {
 public:
  Product(const dnnl::engine& engine, int64_t rows, int64_t depth, int64_t cols) {
    const memory::desc x({rows, depth}, memory::data_type::bf16, memory::format_tag::ab);
    const memory::desc w({depth, cols}, memory::data_type::bf16, memory::format_tag::any);
    const memory::desc y({rows, cols}, memory::data_type::f32, memory::format_tag::ab);
    const dnnl::matmul::primitive_desc primitive({x, w, y}, engine);
    weight_ = primitive.weights_desc();
    matmul_ = dnnl::matmul(primitive);
    x_ = memory(x, engine);
    y_ = memory(y, engine);
    Fill(x_, x.get_size());
  }

  memory MakeWeight(const dnnl::engine& engine) const {
    memory weight(weight_, engine);
    Fill(weight, weight_.get_size());
    return weight;
  }
  void Run(dnnl::stream& stream, const memory& weight) {
    matmul_.execute(stream, {{DNNL_ARG_SRC, x_}, {DNNL_ARG_WEIGHTS, weight}, {DNNL_ARG_DST, y_}});
  }

 private:
  // 0.0078 in every element: no denormals, no overflow.
  static void Fill(const memory& to, size_t bytes) {
    std::memset(to.get_data_handle(), 0x3c, bytes);
  }

  memory::desc weight_;
  dnnl::matmul matmul_;
  memory x_, y_;
};

class Ffn final : public DnnlFfn {
 public:
  Ffn(int64_t num_experts, int64_t hidden_size, int64_t intermediate_size, int64_t num_tokens)
      : engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        gate_up_(engine_, num_tokens, hidden_size, 2 * intermediate_size),
        down_(engine_, num_tokens, intermediate_size, hidden_size) {
    for (int64_t e = 0; e < num_experts; ++e) {
      gate_up_weights_.push_back(gate_up_.MakeWeight(engine_));
      down_weights_.push_back(down_.MakeWeight(engine_));
    }
  }

  void Run(int64_t expert) override {
    gate_up_.Run(stream_, gate_up_weights_[expert]);
    down_.Run(stream_, down_weights_[expert]);
    stream_.wait();
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  Product gate_up_, down_;
  std::vector<memory> gate_up_weights_, down_weights_;
};

}  // namespace

std::unique_ptr<DnnlFfn> DnnlFfn::Create(int num_threads, int64_t num_experts, int64_t hidden_size,
                                         int64_t intermediate_size, int64_t num_tokens) {
  omp_set_num_threads(num_threads);
  return std::make_unique<Ffn>(num_experts, hidden_size, intermediate_size, num_tokens);
}

}  // namespace moelight

#else

namespace moelight {

std::unique_ptr<DnnlFfn> DnnlFfn::Create(int, int64_t, int64_t, int64_t, int64_t) {
  return nullptr;
}

}  // namespace moelight

#endif
