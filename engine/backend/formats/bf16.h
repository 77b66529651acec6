// "bf16": plain rows, [num_rows][num_cols]: what GPU libraries take.
#ifndef MOELIGHT_ENGINE_BACKEND_FORMATS_BF16_H_
#define MOELIGHT_ENGINE_BACKEND_FORMATS_BF16_H_

#include "engine/backend/weight_format.h"

namespace moelight {

extern const WeightFormat kBf16Format;

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_FORMATS_BF16_H_
