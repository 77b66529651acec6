// What both string methods and string filters do: strip, replace, split, search, case.
//
// Thread-safe. Results keep the user's spans byte by byte, except where case mapping changes the
// length of non-ASCII text. Errors: ResourceExhausted from the meter.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_TEXT_OPS_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_TEXT_OPS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/tokenizer/jinja/str.h"

namespace moelight::jinja {

enum class Side : uint8_t { kLeft, kRight, kBoth };

// Without the characters of `chars` at the side; null strips whitespace.
absl::StatusOr<Str> Strip(Meter& meter, const Str& text, const Str* chars, Side side);
// The first `max_count` occurrences; negative: all.
absl::StatusOr<Str> Replace(Meter& meter, const Str& text, const Str& from, const Str& to,
                            int64_t max_count);
// At most `max_splits` cuts, negative: any number; from the end if `from_right`. REQUIRES: the
// separator is not empty.
absl::StatusOr<std::vector<Str>> Split(Meter& meter, const Str& text, const Str& separator,
                                       int64_t max_splits, bool from_right);
// At runs of whitespace, with no empty pieces.
absl::StatusOr<std::vector<Str>> SplitWhitespace(Meter& meter, const Str& text, int64_t max_splits,
                                                 bool from_right);
absl::StatusOr<std::vector<Str>> SplitLines(Meter& meter, const Str& text, bool keep_ends);

// Byte offset of `part` at or after `from`; npos if there is none. Linear time.
size_t FindText(absl::string_view text, absl::string_view part, size_t from);
// Byte offset of the last occurrence; npos if there is none.
absl::StatusOr<size_t> FindLastText(Meter& meter, absl::string_view text, absl::string_view part);

using CaseMapping = std::string (*)(absl::string_view text);
absl::StatusOr<Str> MapCase(Meter& meter, const Str& text, CaseMapping mapping);

absl::StatusOr<Str> JoinPieces(Meter& meter, const std::vector<Str>& pieces, const Str& separator);

// Filled up with `fill`, one character, to `width` characters. kLeft fills at the left.
absl::StatusOr<Str> Fill(Meter& meter, const Str& text, int64_t width, const Str& fill, Side side);

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_TEXT_OPS_H_
