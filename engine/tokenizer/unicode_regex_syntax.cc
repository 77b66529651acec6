#include "engine/tokenizer/unicode_regex_syntax.h"

#include <absl/status/status.h>
#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// Escapes of a letter or digit that mean the same to both engines.
constexpr absl::string_view kSharedEscapes = "dDsSnrtfaexAzZ";

// Oniguruma's \w: alphabetic characters, marks, digits and connectors. PCRE2's lacks the marks.
constexpr absl::string_view kWordClass =
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}"
    "\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}";
// Outside a class, but not within one, it also matches the superscripts and fractions of Latin-1.
constexpr absl::string_view kLatin1Numbers = "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";

class Translator {
 public:
  explicit Translator(absl::string_view pattern) : in_(pattern) {}

  absl::StatusOr<std::string> Run() {
    while (pos_ < in_.size()) RETURN_IF_ERROR(Next());
    return std::move(out_);
  }

 private:
  absl::Status Unsupported(absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("regex ", what, " at offset ", pos_, " is not supported"));
  }
  bool At(absl::string_view text) const { return in_.substr(pos_, text.size()) == text; }
  absl::Status Copy(size_t length) {
    absl::StrAppend(&out_, in_.substr(pos_, length));
    pos_ += length;
    return absl::OkStatus();
  }

  absl::Status Next() {
    const char c = in_[pos_];
    if (c == '\\') return Escape();
    if (in_class_) return ClassItem();
    if (c == '[') {
      in_class_ = true;
      return Copy(At("[^") ? 2 : 1);
    }
    if (c == '(') return Group();
    if (At("{,")) return Unsupported("interval without a lower bound");
    // Oniguruma repeats the interval, PCRE2 makes it possessive.
    if (At("}+")) return Unsupported("'+' after an interval");
    return Copy(1);
  }

  absl::Status ClassItem() {
    if (in_[pos_] == '[') return Unsupported("class inside a class");
    if (At("&&")) return Unsupported("class intersection");
    if (in_[pos_] == ']') in_class_ = false;
    return Copy(1);
  }

  absl::Status Group() {
    if (At("(*")) return Unsupported("verb");
    size_t end = pos_ + 1;
    if (At("(?")) {
      // Option letters: (?m) makes '.' match a newline in one engine and '^' a line in the other.
      while (++end < in_.size() && (absl::ascii_isalpha(in_[end]) || in_[end] == '-')) {
        if (in_[end] != 'i' && in_[end] != 'x' && in_[end] != '-') return Unsupported("option");
      }
    }
    return Copy(end - pos_);
  }

  absl::Status Escape() {
    if (pos_ + 1 == in_.size()) return Unsupported("trailing backslash");
    const char c = in_[pos_ + 1];
    if (c == 'p' || c == 'P') return Property();
    if (c == 'w' || c == 'W') return WordEscape(c == 'W');
    if (c == 'v') {  // vertical tab there, any vertical space here
      pos_ += 2;
      absl::StrAppend(&out_, "\\x{B}");
      return absl::OkStatus();
    }
    if (c == 'u') {
      if (pos_ + 6 > in_.size()) return Unsupported("\\u escape");
      absl::StrAppend(&out_, "\\x{", in_.substr(pos_ + 2, 4), "}");
      pos_ += 6;
      return absl::OkStatus();
    }
    const bool anchor = c == 'A' || c == 'z' || c == 'Z';
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
        (kSharedEscapes.find(c) == absl::string_view::npos || (anchor && in_class_))) {
      return Unsupported(absl::StrCat("escape \\", in_.substr(pos_ + 1, 1)));
    }
    return Copy(2);
  }

  absl::Status WordEscape(bool negated) {
    if (negated && in_class_) return Unsupported("\\W inside a class");
    pos_ += 2;
    if (in_class_) {
      absl::StrAppend(&out_, kWordClass);
    } else {
      absl::StrAppend(&out_, negated ? "[^" : "[", kWordClass, kLatin1Numbers, "]");
    }
    return absl::OkStatus();
  }

  // Names of one or two letters are general categories to both; longer ones are scripts, which
  // PCRE2 would read as script extensions.
  absl::Status Property() {
    const size_t close = in_.find('}', pos_);
    if (pos_ + 2 >= in_.size() || in_[pos_ + 2] != '{' || close == absl::string_view::npos) {
      return Unsupported("property without braces");
    }
    absl::string_view name = in_.substr(pos_ + 3, close - pos_ - 3);
    const bool negated = !name.empty() && name[0] == '^';
    if (negated) name.remove_prefix(1);
    absl::StrAppend(&out_, in_.substr(pos_, 3), negated ? "^" : "", name.size() > 2 ? "sc:" : "",
                    name, "}");
    pos_ = close + 1;
    return absl::OkStatus();
  }

  absl::string_view in_;
  size_t pos_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

absl::StatusOr<std::string> TranslateOnigurumaPattern(absl::string_view pattern) {
  return Translator(pattern).Run();
}

}  // namespace moelight
