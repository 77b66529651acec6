// Copies between views and pages in host memory, for the backends of the host.
#ifndef MOELIGHT_ENGINE_BACKEND_HOST_COPY_H_
#define MOELIGHT_ENGINE_BACKEND_HOST_COPY_H_

#include <cstring>

#include "engine/backend/op_checks.h"
#include "engine/backend/ops.h"

namespace moelight {

inline void CopyOnHost(const TensorView& src, const TensorView& dst) {
  CheckCopy(src, dst);
  if (src.bytes() > 0) std::memcpy(dst.data, src.data, src.bytes());
}

inline void CopyPagesOnHost(const CopyPagesArgs& args) {
  CheckCopyPages(args);
  for (const PageCopy& page : args.pages) {
    std::memcpy(static_cast<char*>(args.dst) + page.dst_page * args.page_bytes,
                static_cast<const char*>(args.src) + page.src_page * args.page_bytes,
                args.page_bytes);
  }
}

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_HOST_COPY_H_
