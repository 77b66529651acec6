#include "engine/tokenizer/jinja/unicode.h"

#include <charconv>
#include <cmath>
#include <cstdlib>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <utf8proc.h>

namespace moelight::jinja {
namespace {

const utf8proc_uint8_t* Bytes(absl::string_view text) {
  return reinterpret_cast<const utf8proc_uint8_t*>(text.data());
}

bool IsContinuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// Full case mappings that are longer than one character; the rest are simple.
constexpr char32_t kSharpS = 0xDF;

void AppendUpper(char32_t c, std::string* out) {
  if (c == kSharpS) {
    out->append("SS");
  } else {
    AppendChar(static_cast<char32_t>(utf8proc_toupper(static_cast<int32_t>(c))), out);
  }
}

void AppendTitle(char32_t c, std::string* out) {
  if (c == kSharpS) {
    out->append("Ss");
  } else {
    AppendChar(static_cast<char32_t>(utf8proc_totitle(static_cast<int32_t>(c))), out);
  }
}

void AppendLower(char32_t c, std::string* out) {
  AppendChar(static_cast<char32_t>(utf8proc_tolower(static_cast<int32_t>(c))), out);
}

utf8proc_category_t Category(char32_t c) { return utf8proc_category(static_cast<int32_t>(c)); }

bool IsCased(char32_t c) { return IsUpper(c) || IsLower(c) || Category(c) == UTF8PROC_CATEGORY_LT; }

template <typename Append>
std::string MapChars(absl::string_view text, Append append) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const DecodedChar c = DecodeChar(text, i);
    append(c.value, &out);
    i += c.size;
  }
  return out;
}

}  // namespace

bool IsValidUtf8(absl::string_view bytes) {
  size_t i = 0;
  while (i < bytes.size()) {
    if (static_cast<unsigned char>(bytes[i]) < 0x80) {
      ++i;
      continue;
    }
    utf8proc_int32_t c;
    const utf8proc_ssize_t size =
        utf8proc_iterate(Bytes(bytes) + i, static_cast<utf8proc_ssize_t>(bytes.size() - i), &c);
    if (size <= 0) return false;
    i += static_cast<size_t>(size);
  }
  return true;
}

size_t CountChars(absl::string_view text) {
  size_t count = 0;
  for (char byte : text) count += !IsContinuation(byte);
  return count;
}

DecodedChar DecodeChar(absl::string_view text, size_t position) {
  const unsigned char byte = static_cast<unsigned char>(text[position]);
  if (byte < 0x80) return {byte, 1};
  utf8proc_int32_t c;
  const utf8proc_ssize_t size = utf8proc_iterate(
      Bytes(text) + position, static_cast<utf8proc_ssize_t>(text.size() - position), &c);
  if (size <= 0) return {0xFFFD, 1};
  return {static_cast<char32_t>(c), static_cast<size_t>(size)};
}

DecodedChar DecodeCharBefore(absl::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && IsContinuation(text[begin])) --begin;
  return DecodeChar(text, begin);
}

void AppendChar(char32_t value, std::string* out) {
  if (value < 0x80) {
    out->push_back(static_cast<char>(value));
    return;
  }
  utf8proc_uint8_t buffer[4];
  const utf8proc_ssize_t size = utf8proc_encode_char(static_cast<int32_t>(value), buffer);
  out->append(reinterpret_cast<const char*>(buffer), static_cast<size_t>(size));
}

size_t ByteOffset(absl::string_view text, size_t index) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (IsContinuation(text[i])) continue;
    if (index == 0) return i;
    --index;
  }
  return text.size();
}

bool IsSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsPrintable(char32_t c) {
  if (c < 0x80) return c >= 0x20 && c < 0x7F;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

bool IsAlpha(char32_t c) {
  const utf8proc_category_t category = Category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool IsDigit(char32_t c) {
  const bool superscript = c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 ||
                           (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089);
  return superscript || Category(c) == UTF8PROC_CATEGORY_ND;
}

bool IsAlnum(char32_t c) {
  const utf8proc_category_t category = Category(c);
  return IsAlpha(c) || (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO);
}

bool IsUpper(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LU; }
bool IsLower(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LL; }
bool IsWord(char32_t c) { return c == '_' || IsAlnum(c); }

std::string ToUpper(absl::string_view text) { return MapChars(text, AppendUpper); }
std::string ToLower(absl::string_view text) { return MapChars(text, AppendLower); }

std::string ToTitle(absl::string_view text) {
  bool after_cased = false;
  return MapChars(text, [&after_cased](char32_t c, std::string* out) {
    after_cased ? AppendLower(c, out) : AppendTitle(c, out);
    after_cased = IsCased(c);
  });
}

std::string ToCapitalized(absl::string_view text) {
  bool first = true;
  return MapChars(text, [&first](char32_t c, std::string* out) {
    first ? AppendTitle(c, out) : AppendLower(c, out);
    first = false;
  });
}

std::string SwapCase(absl::string_view text) {
  return MapChars(text, [](char32_t c, std::string* out) {
    IsUpper(c) ? AppendLower(c, out) : AppendUpper(c, out);
  });
}

std::string QuoteText(absl::string_view text) {
  const bool double_quotes = absl::StrContains(text, '\'') && !absl::StrContains(text, '"');
  const char32_t quote = double_quotes ? '"' : '\'';
  std::string out(1, static_cast<char>(quote));
  for (size_t i = 0; i < text.size();) {
    const DecodedChar c = DecodeChar(text, i);
    i += c.size;
    if (c.value == quote || c.value == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(c.value));
    } else if (c.value == '\n') {
      out.append("\\n");
    } else if (c.value == '\r') {
      out.append("\\r");
    } else if (c.value == '\t') {
      out.append("\\t");
    } else if (IsPrintable(c.value)) {
      AppendChar(c.value, &out);
    } else if (c.value < 0x100) {
      absl::StrAppendFormat(&out, "\\x%02x", static_cast<uint32_t>(c.value));
    } else if (c.value < 0x10000) {
      absl::StrAppendFormat(&out, "\\u%04x", static_cast<uint32_t>(c.value));
    } else {
      absl::StrAppendFormat(&out, "\\U%08x", static_cast<uint32_t>(c.value));
    }
  }
  out.push_back(static_cast<char>(quote));
  return out;
}

std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto scientific =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  const std::string digits(buffer, scientific.ptr);
  const size_t e = digits.find('e');
  const int exponent = std::atoi(digits.c_str() + e + 1);
  // The bounds between plain and scientific notation are those of Python's repr().
  if (exponent < -4 || exponent >= 16) {
    return absl::StrCat(digits.substr(0, e),
                        absl::StrFormat("e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent)));
  }
  const auto fixed =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed);
  std::string out(buffer, fixed.ptr);
  if (!absl::StrContains(out, '.')) out.append(".0");
  return out;
}

}  // namespace moelight::jinja
