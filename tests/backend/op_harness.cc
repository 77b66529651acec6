#include "tests/backend/op_harness.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include "engine/backend/cpu/isa.h"

namespace moelight {

std::ostream& operator<<(std::ostream& out, const BackendCase& backend_case) {
  return out << BackendCaseName(backend_case);
}

std::string BackendCaseName(const BackendCase& backend_case) {
  if (backend_case.name != "cpu") return backend_case.name;
  return absl::StrCat("cpu_", backend_case.isa, "_", backend_case.num_threads,
                      backend_case.kv_format.empty() ? "" : "_", backend_case.kv_format);
}

std::vector<BackendCase> BackendCases() {
  std::vector<BackendCase> cases;
  for (const CpuIsa& isa : CpuIsas()) {
    if (!isa.supported()) continue;
    const double tolerance = absl::EndsWith(isa.name, "bf16") ? 6e-3 : 1e-5;
    cases.push_back({"cpu", std::string(isa.name), 3, tolerance});
  }
  if (!cases.empty()) {
    cases.push_back(cases.back());
    cases.back().num_threads = 1;
  }
  if (CreateBackend("cuda", {}).ok()) {
    cases.push_back({"cuda", "", 1, 6e-3, /*has_exact_dense_products=*/false});
  }
  return cases;
}

std::vector<BackendCase> KvFormatCases() {
  std::vector<BackendCase> cases;
  for (const char* kv_format : {"f16", "int8"}) {
    for (BackendCase backend_case : BackendCases()) {
      if (backend_case.name != "cpu" || backend_case.num_threads == 1) continue;
      backend_case.kv_format = kv_format;
      // In fp32, but for int8 where there are dot products: queries and weights are whole numbers
      // of 16 bits there, and bf16 on AMX for large groups of heads.
      backend_case.tolerance = 1e-5;
      if (backend_case.kv_format == "int8" && backend_case.isa == "avx512_bf16") {
        backend_case.tolerance = 2e-4;
      }
      if (backend_case.kv_format == "int8" && backend_case.isa == "amx_bf16") {
        backend_case.tolerance = 6e-3;
      }
      cases.push_back(backend_case);
    }
  }
  return cases;
}

OpLimits TestLimits() {
  OpLimits limits;
  limits.max_tokens = 1100;
  limits.max_sequences = 80;
  limits.max_step_tokens = 1100;
  limits.max_step_sequences = 80;
  limits.max_step_pages = 4000;
  limits.hidden_size = 128;
  limits.max_intermediate_size = 1100;
  limits.num_experts = 32;
  limits.num_experts_per_tok = 8;
  limits.max_model_len = 4096;
  limits.max_matmul_rows = 1024;
  limits.heads = {8, 8, 128};
  return limits;
}

TestBackend::TestBackend(absl::string_view name, const BackendOptions& options) {
  absl::StatusOr<std::unique_ptr<Backend>> created = CreateBackend(name, options);
  CHECK(created.ok()) << created.status().ToString();
  backend = *std::move(created);
  const absl::Status reserved = backend->Reserve(TestLimits());
  CHECK(reserved.ok()) << reserved.ToString();
  stream = backend->CreateStream(Lane::kGpu);
}

TestBackend::TestBackend(const BackendCase& backend_case)
    : TestBackend(backend_case.name,
                  {backend_case.num_threads, backend_case.isa, backend_case.kv_format}) {}

TestBackend TestBackend::Reference(const std::string& kv_format) {
  BackendOptions options;
  options.kv_format = kv_format;
  return TestBackend("reference", options);
}

Matrix Matrix::Rows(int64_t begin, int64_t end) const {
  Matrix part(end - begin, cols);
  part.values.assign(values.begin() + begin * cols, values.begin() + end * cols);
  return part;
}

Matrix RandomMatrix(int64_t rows, int64_t cols, uint32_t seed, float stddev) {
  // The sum of four 16-bit parts of a hash is close to normal, with variance 4/12 of a uniform
  // one's. (The generators of <random> cost more to seed than these small matrices take.)
  const float scale = stddev / (65536.0f * std::sqrt(4.0f / 12.0f));
  Matrix matrix(rows, cols);
  uint64_t state = seed;
  for (float& value : matrix.values) {
    state += 0x9e3779b97f4a7c15u;
    uint64_t hash = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
    hash ^= hash >> 31;
    const uint64_t sum =
        (hash & 0xffff) + (hash >> 16 & 0xffff) + (hash >> 32 & 0xffff) + (hash >> 48);
    value = (static_cast<float>(sum) - 131070.0f) * scale;
  }
  return matrix;
}

Matrix RandomBf16Matrix(int64_t rows, int64_t cols, uint32_t seed, float stddev) {
  Matrix matrix = RandomMatrix(rows, cols, seed, stddev);
  for (float& value : matrix.values) value = BFloat16::FromFloat(value).ToFloat();
  return matrix;
}

PackedWeight::PackedWeight(const WeightFormat& format, Matrix source) {
  const int64_t bytes = format.bytes(source.rows, source.cols);
  data_.reset(std::aligned_alloc(64, bytes));
  std::memset(data_.get(), 0, bytes);
  format.pack(source.view(), 0, source.rows, data_.get());
  matrix_ = {data_.get(), &format, source.rows, source.cols};
}

void PackedWeight::Free::operator()(void* data) const { std::free(data); }

PackedFfn::PackedFfn(const WeightFormat& format, int64_t hidden_size, int64_t intermediate_size,
                     uint32_t seed)
    : gate_up(format, RandomBf16Matrix(2 * intermediate_size, hidden_size, seed,
                                       1.0f / std::sqrt(static_cast<float>(hidden_size)))),
      down(format, RandomBf16Matrix(hidden_size, intermediate_size, seed + 1,
                                    1.0f / std::sqrt(static_cast<float>(intermediate_size)))) {}

RoutingBuffers::RoutingBuffers(int64_t num_tokens, int64_t num_experts, int64_t num_experts_per_tok)
    : num_tokens(num_tokens),
      num_experts_per_tok(num_experts_per_tok),
      expert_ids(num_tokens * num_experts_per_tok, -1),
      expert_offsets(num_experts + 1, -1),
      slot_tokens(num_tokens * num_experts_per_tok, -1),
      token_slots(num_tokens * num_experts_per_tok, -1),
      gates(num_tokens * num_experts_per_tok, -1.0f) {}

Routing RoutingBuffers::routing() {
  const int64_t num_slots = num_tokens * num_experts_per_tok;
  Routing routing;
  routing.expert_ids =
      TensorView::Make(expert_ids.data(), DType::kI32, {num_tokens, num_experts_per_tok});
  routing.gates = TensorView::Make(gates.data(), DType::kF32, {num_tokens, num_experts_per_tok});
  routing.expert_offsets = TensorView::Make(expert_offsets.data(), DType::kI32,
                                            {static_cast<int64_t>(expert_offsets.size())});
  routing.slot_tokens = TensorView::Make(slot_tokens.data(), DType::kI32, {num_slots});
  routing.token_slots =
      TensorView::Make(token_slots.data(), DType::kI32, {num_tokens, num_experts_per_tok});
  return routing;
}

double RelativeError(const std::vector<float>& actual, const std::vector<float>& expected) {
  CHECK_EQ(actual.size(), expected.size());
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double d = double{actual[i]} - expected[i];
    difference += d * d;
    norm += double{expected[i]} * expected[i];
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

void ExpectClose(const Matrix& actual, const Matrix& expected, double tolerance) {
  // Written so that NaN fails.
  const double error = RelativeError(actual.values, expected.values);
  EXPECT_TRUE(error <= tolerance) << "relative error " << error << ", tolerance " << tolerance;
}

void ExpectSame(const Matrix& actual, const Matrix& expected) {
  ASSERT_EQ(actual.values.size(), expected.values.size());
  if (actual.values.empty()) return;
  for (size_t i = 0; i < actual.values.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(actual.values[i]),
              std::bit_cast<uint32_t>(expected.values[i]))
        << "element " << i << ": " << actual.values[i] << " and " << expected.values[i];
  }
}

}  // namespace moelight
