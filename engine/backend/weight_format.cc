#include "engine/backend/weight_format.h"

#include "engine/backend/formats/bf16.h"
#include "engine/backend/formats/bf16_tiled.h"
#include "engine/backend/formats/f32.h"

namespace moelight {

absl::Span<const WeightFormat* const> WeightFormats() {
  static constexpr const WeightFormat* kFormats[] = {&kF32Format, &kBf16Format, &kBf16TiledFormat};
  return kFormats;
}

const WeightFormat* FindWeightFormat(absl::string_view name) {
  for (const WeightFormat* format : WeightFormats()) {
    if (format->name == name) return format;
  }
  return nullptr;
}

}  // namespace moelight
