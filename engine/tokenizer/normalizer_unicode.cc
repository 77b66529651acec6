#include "engine/tokenizer/normalizer_unicode.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>

#include <absl/strings/str_cat.h>
#include <utf8proc.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/normalizer_rewriter.h"
#include "engine/tokenizer/unicode.h"

namespace moelight {
namespace {

struct FreeDeleter {
  void operator()(utf8proc_uint8_t* bytes) const { std::free(bytes); }
};

utf8proc_option_t Options(NormalizationForm form) {
  const bool compatible = form == NormalizationForm::kNfkc || form == NormalizationForm::kNfkd;
  const bool composed = form == NormalizationForm::kNfc || form == NormalizationForm::kNfkc;
  return static_cast<utf8proc_option_t>(UTF8PROC_STABLE |
                                        (composed ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                                        (compatible ? UTF8PROC_COMPAT : 0));
}

// Whether text can be cut before `character`, so that the parts normalize independently: nothing
// moves across it or combines with what precedes it. Looks at what it decomposes to. All starters
// that combine backwards are marks or the vowels and final consonants of Hangul.
bool IsBoundary(char32_t character, utf8proc_option_t options) {
  if (character < 0x80 || IsNewerThanNormalizer(character)) return true;
  // Decomposed in either case, because composing works on what decomposing gives.
  const auto decompose =
      static_cast<utf8proc_option_t>((options & ~UTF8PROC_COMPOSE) | UTF8PROC_DECOMPOSE);
  std::array<utf8proc_int32_t, 32> decomposed;  // the longest decomposition has 18
  int last_class = 0;
  const auto length =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(character), decomposed.data(),
                              decomposed.size(), decompose, &last_class);
  if (length <= 0) return false;
  const auto first = static_cast<char32_t>(decomposed[0]);
  const bool hangul_tail =
      (first >= 0x1160 && first <= 0x11FF) || (first >= 0xD7B0 && first <= 0xD7FF);
  return !hangul_tail && !IsMark(first) &&
         utf8proc_get_property(decomposed[0])->combining_class == 0;
}

absl::Status NormalizePart(size_t begin, size_t end, utf8proc_option_t options,
                           NormalizedTextRewriter* rewriter) {
  if (end - begin <= 1) {  // empty or ASCII
    rewriter->Copy(begin, end);
    return absl::OkStatus();
  }
  utf8proc_uint8_t* bytes = nullptr;
  const auto length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(rewriter->source().data()) + begin,
                   static_cast<utf8proc_ssize_t>(end - begin), &bytes, options);
  const std::unique_ptr<utf8proc_uint8_t, FreeDeleter> owner(bytes);
  if (length < 0) {
    return absl::ResourceExhaustedError(absl::StrCat("Unicode normalization of ", end - begin,
                                                     " bytes: ", utf8proc_errmsg(length)));
  }
  rewriter->Replace(begin, end,
                    {reinterpret_cast<const char*>(bytes), static_cast<size_t>(length)});
  return absl::OkStatus();
}

// End of the ASCII characters from `pos` on.
size_t AsciiRunEnd(absl::string_view text, size_t pos) {
  while (pos < text.size() && static_cast<unsigned char>(text[pos]) < 0x80) ++pos;
  return pos;
}

}  // namespace

absl::Status NormalizeUnicode(NormalizationForm form, NormalizedText* text) {
  if (AsciiRunEnd(text->text, 0) == text->text.size()) return absl::OkStatus();
  // Marks need parts as small as can be, so that plain bytes do not lend their mark to others.
  const bool small_parts = !text->plain.empty();
  const utf8proc_option_t options = Options(form);
  NormalizedTextRewriter rewriter(text);
  const absl::string_view source = rewriter.source();
  size_t begin = 0;  // of the part that waits to be normalized
  for (size_t pos = 0; pos < source.size();) {
    // Of an ASCII run only the last character can combine, with what follows it.
    const size_t ascii_end = AsciiRunEnd(source, pos);
    const size_t copy_end =
        ascii_end == source.size() ? ascii_end : std::max(pos + 1, ascii_end) - 1;
    if (copy_end > pos) {
      RETURN_IF_ERROR(NormalizePart(begin, pos, options, &rewriter));
      rewriter.Copy(pos, copy_end);
      begin = pos = copy_end;
      continue;
    }
    const size_t next = pos + Utf8Length(source[pos]);
    const char32_t character = DecodeUtf8(source, pos);
    const bool verbatim = IsNewerThanNormalizer(character);
    if (verbatim || (small_parts && IsBoundary(character, options))) {
      RETURN_IF_ERROR(NormalizePart(begin, pos, options, &rewriter));
      begin = pos;
    }
    if (verbatim) {
      rewriter.Copy(pos, next);
      begin = next;
    }
    pos = next;
  }
  RETURN_IF_ERROR(NormalizePart(begin, source.size(), options, &rewriter));
  rewriter.Finish();
  return absl::OkStatus();
}

}  // namespace moelight
