// Where Unicode versions differ: the data behind SubstituteForRegex and IsNewerThanNormalizer.
#ifndef MOELIGHT_ENGINE_TOKENIZER_UNICODE_TABLES_H_
#define MOELIGHT_ENGINE_TOKENIZER_UNICODE_TABLES_H_

#include <absl/types/span.h>

namespace moelight {

struct StandInRange {
  char32_t first;
  char32_t last;
  char32_t stand_in;  // same general category and UTF-8 length, known since Unicode 13 or earlier
};

struct CharacterRange {
  char32_t first;
  char32_t last;
};

// Both sorted and disjoint.
absl::Span<const StandInRange> RegexStandIns();
absl::Span<const CharacterRange> NewerThanNormalizer();

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_UNICODE_TABLES_H_
