// The four Unicode normalization forms, as of the reference tokenizer.
#ifndef MOELIGHT_ENGINE_TOKENIZER_NORMALIZER_UNICODE_H_
#define MOELIGHT_ENGINE_TOKENIZER_NORMALIZER_UNICODE_H_

#include "engine/tokenizer/normalizer.h"

namespace moelight {

enum class NormalizationForm { kNfc, kNfd, kNfkc, kNfkd };

// ResourceExhausted if the text is too large for the library to normalize.
absl::Status NormalizeUnicode(NormalizationForm form, NormalizedText* text);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_NORMALIZER_UNICODE_H_
