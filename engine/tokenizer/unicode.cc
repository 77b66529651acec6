#include "engine/tokenizer/unicode.h"

#include <algorithm>
#include <bitset>

#include <absl/strings/ascii.h>
#include <utf8proc.h>

#include "engine/tokenizer/unicode_tables.h"

namespace moelight {
namespace {

constexpr absl::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD
constexpr char32_t kFirstStandIn = 0x897;  // the smallest character of RegexStandIns()
constexpr int kPageBits = 6;               // a page is what shares all but the last UTF-8 byte
using PageSet = std::bitset<(0x110000 >> kPageBits)>;

// What the bytes from `pos` on begin with.
struct Utf8Scan {
  enum Kind { kCharacter, kIncomplete, kInvalid } kind;
  size_t length;  // bytes of the character, or of the maximal prefix of one
};

// The range that the second byte must lie in excludes overlong forms, surrogates and characters
// past U+10FFFF.
Utf8Scan ScanUtf8(absl::string_view text, size_t pos) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(pos);
  if (lead < 0x80) return {Utf8Scan::kCharacter, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8Scan::kInvalid, 1};
  const size_t length = Utf8Length(text[pos]);
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < length; ++i) {
    if (pos + i == text.size()) return {Utf8Scan::kIncomplete, i};
    const unsigned char next = byte(pos + i);
    if (next < (i == 1 ? low : 0x80) || next > (i == 1 ? high : 0xBF)) {
      return {Utf8Scan::kInvalid, i};
    }
  }
  return {Utf8Scan::kCharacter, length};
}

template <typename Range>
const Range* FindRange(absl::Span<const Range> ranges, char32_t character) {
  const auto* it =
      std::upper_bound(ranges.begin(), ranges.end(), character,
                       [](char32_t value, const Range& range) { return value < range.first; });
  if (it == ranges.begin() || character > (--it)->last) return nullptr;
  return &*it;
}

const PageSet& StandInPages() {
  static const PageSet pages = [] {
    PageSet set;
    for (const StandInRange& range : RegexStandIns()) {
      for (char32_t page = range.first >> kPageBits; page <= range.last >> kPageBits; ++page) {
        set.set(page);
      }
    }
    return set;
  }();
  return pages;
}

// The general category, newer characters included.
utf8proc_category_t Category(char32_t character) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(character));
  if (category != UTF8PROC_CATEGORY_CN) return category;
  const StandInRange* range = FindRange(RegexStandIns(), character);
  return range == nullptr ? category
                          : utf8proc_category(static_cast<utf8proc_int32_t>(range->stand_in));
}

bool InRange(utf8proc_category_t category, utf8proc_category_t first, utf8proc_category_t last) {
  return category >= first && category <= last;
}

bool IsCircledLetter(char32_t c) {
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
         (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

}  // namespace

std::optional<size_t> FindInvalidUtf8(absl::string_view text) {
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Scan scan = ScanUtf8(text, pos);
    if (scan.kind != Utf8Scan::kCharacter) return pos;
    pos += scan.length;
  }
  return std::nullopt;
}

char32_t DecodeUtf8(absl::string_view text, size_t pos) {
  const auto bits = [&](size_t i) { return static_cast<char32_t>(text[pos + i]) & 0x3F; };
  const auto lead = static_cast<unsigned char>(text[pos]);
  if (lead < 0x80) return lead;
  if (lead < 0xE0) return (lead & 0x1F) << 6 | bits(1);
  if (lead < 0xF0) return (lead & 0x0F) << 12 | bits(1) << 6 | bits(2);
  return (lead & 0x07) << 18 | bits(1) << 12 | bits(2) << 6 | bits(3);
}

size_t PreviousUtf8(absl::string_view text, size_t pos) {
  do {
    --pos;
  } while ((static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80);
  return pos;
}

void AppendUtf8(char32_t character, std::string* out) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(character), bytes);
  out->append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

bool IsOneCharacter(absl::string_view text) {
  return !text.empty() && text.size() == Utf8Length(text[0]);
}

bool IsWhiteSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsNumeric(char32_t c) {
  return InRange(Category(c), UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}

bool IsPunctuation(char32_t c) {
  // ASCII has symbols ($+<=>^`|~) that programmers count as punctuation, and so does the reference.
  if (c < 0x80) return absl::ascii_ispunct(static_cast<unsigned char>(c));
  return InRange(Category(c), UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO);
}

bool IsMark(char32_t c) { return InRange(Category(c), UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME); }

bool IsWord(char32_t c) {
  const utf8proc_category_t category = Category(c);
  return InRange(category, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_NL) ||
         category == UTF8PROC_CATEGORY_PC || IsCircledLetter(c) || c == 0x200C || c == 0x200D;
}

void Utf8Assembler::Append(absl::string_view bytes, std::string* out) {
  pending_.append(bytes.data(), bytes.size());
  size_t pos = 0;
  while (pos < pending_.size()) {
    const Utf8Scan scan = ScanUtf8(pending_, pos);
    if (scan.kind == Utf8Scan::kIncomplete) break;
    if (scan.kind == Utf8Scan::kCharacter) {
      out->append(pending_, pos, scan.length);
    } else {
      out->append(kReplacementCharacter.data(), kReplacementCharacter.size());
    }
    pos += scan.length;
  }
  pending_.erase(0, pos);
}

void Utf8Assembler::Flush(std::string* out) {
  if (!pending_.empty()) out->append(kReplacementCharacter.data(), kReplacementCharacter.size());
  pending_.clear();
}

bool SubstituteForRegex(absl::string_view text, std::string* copy) {
  const PageSet& pages = StandInPages();
  bool substituted = false;
  for (size_t pos = 0; pos < text.size();) {
    const size_t length = Utf8Length(text[pos]);
    if (length >= 3) {
      const char32_t character = DecodeUtf8(text, pos);
      const StandInRange* range = nullptr;
      if (character >= kFirstStandIn && pages[character >> kPageBits]) {
        range = FindRange(RegexStandIns(), character);
      }
      if (range != nullptr) {
        if (!substituted) copy->assign(text.data(), text.size());
        substituted = true;
        std::string stand_in;
        AppendUtf8(range->stand_in, &stand_in);
        copy->replace(pos, length, stand_in);
      }
    }
    pos += length;
  }
  return substituted;
}

bool IsNewerThanNormalizer(char32_t character) {
  return FindRange(NewerThanNormalizer(), character) != nullptr;
}

}  // namespace moelight
