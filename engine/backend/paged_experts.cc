#include "engine/backend/paged_experts.h"

#include <algorithm>
#include <cstring>

namespace moelight {
namespace {

// WeightFormat::bytes() promises multiples of 64, so copies stay aligned as their originals.
int64_t Bytes(const WeightMatrix& matrix) {
  return matrix.format->bytes(matrix.num_rows, matrix.num_cols);
}

}  // namespace

const void* PagedExperts::Copy(const WeightPages& pages, const WeightMatrix& matrix,
                               char* to) const {
  const int64_t begin = static_cast<const char*>(matrix.data) - pages.storage;
  const int64_t end = begin + Bytes(matrix);
  for (int64_t offset = begin; offset < end;) {
    const int64_t page = offset / pages.page_bytes;
    const int64_t count = std::min(end, (page + 1) * pages.page_bytes) - offset;
    std::memcpy(to + (offset - begin), pages.Address(page) + offset % pages.page_bytes, count);
    offset += count;
  }
  return to;
}

absl::Span<const FfnWeights> PagedExperts::Gather(const MoeFfnArgs& args) {
  if (!args.pages.defined()) return args.experts;
  int64_t bytes = 0;
  for (const FfnWeights& expert : args.experts) bytes += Bytes(expert.gate_up) + Bytes(expert.down);
  storage_.resize(bytes / sizeof(Line) + 1);
  experts_.assign(args.experts.begin(), args.experts.end());
  char* to = storage_.front().bytes;
  for (FfnWeights& expert : experts_) {
    for (WeightMatrix* matrix : {&expert.gate_up, &expert.down}) {
      matrix->data = Copy(args.pages, *matrix, to);
      to += Bytes(*matrix);
    }
  }
  return experts_;
}

}  // namespace moelight
