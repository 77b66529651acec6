// Splits text at delimiters, with the five ways in which tokenizer.json treats the delimiters.
#ifndef MOELIGHT_ENGINE_TOKENIZER_PRE_TOKENIZER_SPLIT_H_
#define MOELIGHT_ENGINE_TOKENIZER_PRE_TOKENIZER_SPLIT_H_

#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/tokenizer/byte_span.h"

namespace moelight {

enum class SplitBehavior {
  kRemoved,             // delimiters are dropped
  kIsolated,            // each delimiter is a piece
  kMergedWithPrevious,  // each delimiter ends the piece before it
  kMergedWithNext,      // each delimiter begins the piece after it
  kContiguous,          // neighbouring delimiters are one piece
};

absl::StatusOr<SplitBehavior> ParseSplitBehavior(absl::string_view name,
                                                 const std::string& section);

// A stretch of the text, either a delimiter or what lies between two.
struct SplitPart {
  size_t begin = 0;
  size_t end = 0;
  bool is_delimiter = false;
};

// The parts that cover a text of `size` bytes, given the matches of a pattern in it. With `invert`
// the matches are what lies between the delimiters.
std::vector<SplitPart> PartsFromMatches(const std::vector<ByteSpan>& matches, size_t size,
                                        bool invert);

// The pieces, in order. Some may be empty.
std::vector<ByteSpan> SplitPieces(const std::vector<SplitPart>& parts, SplitBehavior behavior);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_PRE_TOKENIZER_SPLIT_H_
