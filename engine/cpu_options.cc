#include "engine/cpu_options.h"

#include <algorithm>
#include <thread>

namespace moelight {

int32_t NumCpuThreads(const EngineOptions& options) {
  if (options.cpu_threads > 0) return options.cpu_threads;
  // One core is left for RPCs, tokenization and the store.
  return std::max(1, static_cast<int32_t>(std::thread::hardware_concurrency()) - 1);
}

}  // namespace moelight
