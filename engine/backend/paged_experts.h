// PagedExperts: the experts of a MoeFfnArgs as whole matrices, for backends of the host, whose
// kernels do not read through a page map.
//
// Such backends stream nothing in production: this is how plans with a page ring run on machines
// without a GPU, that is in tests. It copies the whole layer and allocates.
#ifndef MOELIGHT_ENGINE_BACKEND_PAGED_EXPERTS_H_
#define MOELIGHT_ENGINE_BACKEND_PAGED_EXPERTS_H_

#include <vector>

#include "engine/backend/ops.h"

namespace moelight {

class PagedExperts {
 public:
  // args.experts if they are in place, else copies that live until the next call.
  absl::Span<const FfnWeights> Gather(const MoeFfnArgs& args);

 private:
  struct alignas(64) Line {
    char bytes[64];
  };

  const void* Copy(const WeightPages& pages, const WeightMatrix& matrix, char* to) const;

  std::vector<Line> storage_;
  std::vector<FfnWeights> experts_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_PAGED_EXPERTS_H_
