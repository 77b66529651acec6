// "f32": row-major fp32, as in a checkpoint. Read by the reference backend.
#ifndef MOELIGHT_ENGINE_BACKEND_FORMATS_F32_H_
#define MOELIGHT_ENGINE_BACKEND_FORMATS_F32_H_

#include "engine/backend/weight_format.h"

namespace moelight {

extern const WeightFormat kF32Format;

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_FORMATS_F32_H_
