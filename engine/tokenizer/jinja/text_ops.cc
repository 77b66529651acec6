#include "engine/tokenizer/jinja/text_ops.h"

#include <string.h>

#include <algorithm>

#include <absl/strings/match.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight::jinja {
namespace {

constexpr size_t kNone = absl::string_view::npos;

bool Matches(absl::string_view text, size_t at, const DecodedChar& c, const Str* chars) {
  if (chars == nullptr) return IsSpace(c.value);
  // A whole character of UTF-8 is never part of another one.
  return absl::StrContains(chars->view(), text.substr(at, c.size));
}

// Looking a character up costs a walk over `chars`, whose size is the template's to choose.
absl::Status ChargeMatch(Meter& meter, const Str* chars) {
  return chars == nullptr ? absl::OkStatus() : meter.Scan(chars->size());
}

// The line break at `at`, as str.splitlines() knows them; 0 if there is none.
size_t LineBreakSize(absl::string_view text, size_t at) {
  const DecodedChar c = DecodeChar(text, at);
  if (c.value == '\r') return at + 1 < text.size() && text[at + 1] == '\n' ? 2 : 1;
  const bool is_break = c.value == '\n' || c.value == 0x0B || c.value == 0x0C ||
                        (c.value >= 0x1C && c.value <= 0x1E) || c.value == 0x85 ||
                        c.value == 0x2028 || c.value == 0x2029;
  return is_break ? c.size : 0;
}

// Charges for `pieces` made of `text`, each of which is a string of its own.
absl::Status ChargePieces(Meter& meter, const Str& text, size_t num_pieces) {
  RETURN_IF_ERROR(meter.Allocate(text.size()));
  return meter.Step(static_cast<int64_t>(num_pieces));
}

size_t SkipSpaces(absl::string_view text, size_t at, bool spaces) {
  while (at < text.size()) {
    const DecodedChar c = DecodeChar(text, at);
    if (IsSpace(c.value) != spaces) break;
    at += c.size;
  }
  return at;
}

size_t SkipSpacesBefore(absl::string_view text, size_t end, bool spaces) {
  while (end > 0) {
    const DecodedChar c = DecodeCharBefore(text, end);
    if (IsSpace(c.value) != spaces) break;
    end -= c.size;
  }
  return end;
}

}  // namespace

absl::StatusOr<Str> Strip(Meter& meter, const Str& text, const Str* chars, Side side) {
  const absl::string_view view = text.view();
  size_t begin = 0;
  size_t end = view.size();
  while (side != Side::kRight && begin < end) {
    const DecodedChar c = DecodeChar(view, begin);
    RETURN_IF_ERROR(ChargeMatch(meter, chars));
    if (!Matches(view, begin, c, chars)) break;
    begin += c.size;
  }
  while (side != Side::kLeft && end > begin) {
    const DecodedChar c = DecodeCharBefore(view, end);
    RETURN_IF_ERROR(ChargeMatch(meter, chars));
    if (!Matches(view, end - c.size, c, chars)) break;
    end -= c.size;
  }
  RETURN_IF_ERROR(meter.ScanChars(begin + (view.size() - end)));
  RETURN_IF_ERROR(meter.Allocate(end - begin));
  return text.Slice(begin, end);
}

size_t FindText(absl::string_view text, absl::string_view part, size_t from) {
  if (from > text.size()) return kNone;
  if (part.empty()) return from;
  // memmem, because it is linear in the worst case and std::string::find is not.
  const void* at = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return at == nullptr ? kNone : static_cast<size_t>(static_cast<const char*>(at) - text.data());
}

absl::StatusOr<size_t> FindLastText(Meter& meter, absl::string_view text, absl::string_view part) {
  // The search compares the whole part at every place in the worst case. A short one is charged
  // for the way it went, so that rsplit() is linear in its text.
  constexpr size_t kShort = 64;
  const size_t cost_per_byte = std::max<size_t>(part.size(), 1);
  if (part.size() > kShort) RETURN_IF_ERROR(meter.Scan(text.size() * cost_per_byte));
  const size_t at = text.rfind(part);
  const size_t way = text.size() - (at == kNone ? 0 : at);
  if (part.size() <= kShort) RETURN_IF_ERROR(meter.Scan(way * cost_per_byte));
  return at;
}

absl::StatusOr<Str> Replace(Meter& meter, const Str& text, const Str& from, const Str& to,
                            int64_t max_count) {
  const absl::string_view view = text.view();
  RETURN_IF_ERROR(meter.Scan(view.size()));
  StrBuilder builder(&meter);
  size_t copied = 0;
  size_t search = 0;
  for (int64_t count = 0; max_count < 0 || count < max_count; ++count) {
    const size_t at = FindText(view, from.view(), search);
    if (at == kNone || builder.overflown()) break;
    RETURN_IF_ERROR(meter.Step());
    builder.Append(text, copied, at);
    builder.Append(to);
    copied = at + from.size();
    search = copied;
    if (!from.empty()) continue;
    // An empty part is found once before every character and once at the end.
    if (at == view.size()) break;
    search = at + DecodeChar(view, at).size;
  }
  if (copied == 0 && builder.size() == 0 && !builder.overflown()) return text;
  builder.Append(text, copied, view.size());
  return builder.Build();
}

absl::StatusOr<std::vector<Str>> Split(Meter& meter, const Str& text, const Str& separator,
                                       int64_t max_splits, bool from_right) {
  const absl::string_view view = text.view();
  const size_t step = separator.size();
  RETURN_IF_ERROR(meter.Scan(view.size()));
  std::vector<Str> pieces;
  const auto may_split = [&]() {
    return max_splits < 0 || pieces.size() < static_cast<size_t>(max_splits);
  };
  if (!from_right) {
    size_t begin = 0;
    while (may_split()) {
      const size_t at = FindText(view, separator.view(), begin);
      if (at == kNone) break;
      RETURN_IF_ERROR(meter.Step());
      pieces.push_back(text.Slice(begin, at));
      begin = at + step;
    }
    pieces.push_back(text.Slice(begin, view.size()));
  } else {
    size_t end = view.size();
    while (may_split()) {
      ASSIGN_OR_RETURN(const size_t at, FindLastText(meter, view.substr(0, end), separator.view()));
      if (at == kNone) break;
      RETURN_IF_ERROR(meter.Step());
      pieces.push_back(text.Slice(at + step, end));
      end = at;
    }
    pieces.push_back(text.Slice(0, end));
    std::reverse(pieces.begin(), pieces.end());
  }
  RETURN_IF_ERROR(ChargePieces(meter, text, pieces.size()));
  return pieces;
}

absl::StatusOr<std::vector<Str>> SplitWhitespace(Meter& meter, const Str& text, int64_t max_splits,
                                                 bool from_right) {
  const absl::string_view view = text.view();
  RETURN_IF_ERROR(meter.ScanChars(view.size()));
  std::vector<Str> pieces;
  const auto may_split = [&]() {
    return max_splits < 0 || pieces.size() < static_cast<size_t>(max_splits);
  };
  if (!from_right) {
    size_t begin = SkipSpaces(view, 0, true);
    while (begin < view.size()) {
      // The last piece keeps its inner whitespace, but not that at the end of the text.
      const size_t end = may_split() ? SkipSpaces(view, begin, false) : view.size();
      RETURN_IF_ERROR(meter.Step());
      pieces.push_back(text.Slice(begin, end));
      begin = SkipSpaces(view, end, true);
    }
  } else {
    size_t end = SkipSpacesBefore(view, view.size(), true);
    while (end > 0) {
      const size_t begin = may_split() ? SkipSpacesBefore(view, end, false) : 0;
      RETURN_IF_ERROR(meter.Step());
      pieces.push_back(text.Slice(begin, end));
      end = SkipSpacesBefore(view, begin, true);
    }
    std::reverse(pieces.begin(), pieces.end());
  }
  RETURN_IF_ERROR(ChargePieces(meter, text, pieces.size()));
  return pieces;
}

absl::StatusOr<std::vector<Str>> SplitLines(Meter& meter, const Str& text, bool keep_ends) {
  const absl::string_view view = text.view();
  RETURN_IF_ERROR(meter.ScanChars(view.size()));
  std::vector<Str> lines;
  size_t begin = 0;
  for (size_t i = 0; i < view.size();) {
    const size_t break_size = LineBreakSize(view, i);
    if (break_size == 0) {
      i += DecodeChar(view, i).size;
      continue;
    }
    RETURN_IF_ERROR(meter.Step());
    lines.push_back(text.Slice(begin, keep_ends ? i + break_size : i));
    i += break_size;
    begin = i;
  }
  if (begin < view.size()) lines.push_back(text.Slice(begin, view.size()));
  RETURN_IF_ERROR(ChargePieces(meter, text, lines.size()));
  return lines;
}

absl::StatusOr<Str> MapCase(Meter& meter, const Str& text, CaseMapping mapping) {
  RETURN_IF_ERROR(meter.ScanChars(text.size()));
  std::string mapped = mapping(text.view());
  RETURN_IF_ERROR(meter.Allocate(mapped.size()));
  Str result = text.ascii() ? Str::WithSpansOf(std::move(mapped), text)
                            : Str::Derived(std::move(mapped), text.tainted());
  return result.AsMarkup(text.markup());
}

absl::StatusOr<Str> JoinPieces(Meter& meter, const std::vector<Str>& pieces, const Str& separator) {
  RETURN_IF_ERROR(meter.Step(static_cast<int64_t>(pieces.size())));
  StrBuilder builder(&meter);
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (i > 0) builder.Append(separator);
    builder.Append(pieces[i]);
  }
  return builder.Build();
}

absl::StatusOr<Str> Fill(Meter& meter, const Str& text, int64_t width, const Str& fill, Side side) {
  const int64_t missing = std::max<int64_t>(width - static_cast<int64_t>(text.num_chars()), 0);
  if (missing > meter.max_value_bytes()) return meter.ValueTooLarge();
  RETURN_IF_ERROR(meter.Step(missing / 8));
  // Python's str.center() puts the odd character at the left if the width is odd.
  const int64_t left = side == Side::kLeft    ? missing
                       : side == Side::kRight ? 0
                                              : missing / 2 + (missing & width & 1);
  StrBuilder builder(&meter);
  for (int64_t i = 0; i < left; ++i) builder.Append(fill);
  builder.Append(text);
  for (int64_t i = left; i < missing; ++i) builder.Append(fill);
  return builder.Build();
}

}  // namespace moelight::jinja
