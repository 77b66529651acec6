// What the configuration says about the cores, for whoever makes a cpu backend.
#ifndef MOELIGHT_ENGINE_CPU_OPTIONS_H_
#define MOELIGHT_ENGINE_CPU_OPTIONS_H_

#include <cstdint>

#include "engine/engine.h"

namespace moelight {

// engine.cpu_threads, or what it is when it is 0.
int32_t NumCpuThreads(const EngineOptions& options);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_CPU_OPTIONS_H_
