#include "engine/tokenizer/jinja/lexer.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/string_literal.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight::jinja {
namespace {

constexpr size_t kNone = absl::string_view::npos;

// All line ends become \n, and the one at the very end goes, as keep_trailing_newline=False has it.
std::string NormalizeNewlines(absl::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out.push_back(source[i]);
      continue;
    }
    out.push_back('\n');
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

// What stands after an opening {{ {% or {#, or before a closing one.
enum class Mark : uint8_t { kNone, kStrip, kKeep };

bool IsNameByte(char c) {
  const unsigned char byte = static_cast<unsigned char>(c);
  return absl::ascii_isalnum(byte) || c == '_' || byte >= 0x80;
}

bool IsDigitByte(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }

class Lexer {
 public:
  explicit Lexer(absl::string_view source) : storage_(NormalizeNewlines(source)), text_(storage_) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (at_ < text_.size()) RETURN_IF_ERROR(LexText());
    Emit(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  // --- Template text and the begin of tags ------------------------------------------------------

  absl::Status LexText() {
    size_t tag = at_;
    while (true) {
      tag = text_.find('{', tag);
      if (tag == kNone || tag + 1 == text_.size()) {
        EmitData(text_.substr(at_));
        Advance(text_.size());
        return absl::OkStatus();
      }
      if (absl::StrContains("{%#", text_[tag + 1])) break;
      ++tag;
    }
    const char kind = text_[tag + 1];
    const Mark mark = ReadMark(tag + 2);
    const absl::string_view data = text_.substr(at_, tag - at_);
    EmitData(kind == '{' && mark != Mark::kStrip ? data : StripBeforeTag(data, mark));
    const size_t body = tag + (mark == Mark::kNone ? 2 : 3);
    Advance(tag);
    if (kind == '#') return LexComment(body);
    size_t raw_end = 0;
    if (kind == '%' && MatchTagWord(body, "raw", &raw_end)) {
      Advance(raw_end);
      return LexRaw();
    }
    Emit(kind == '{' ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, "");
    Advance(body);
    return LexTag(kind == '{' ? '}' : '%');
  }

  Mark ReadMark(size_t at) const {
    if (at >= text_.size()) return Mark::kNone;
    return text_[at] == '-' ? Mark::kStrip : text_[at] == '+' ? Mark::kKeep : Mark::kNone;
  }

  // `data` is followed by a block, comment or raw tag (or a variable that strips).
  absl::string_view StripBeforeTag(absl::string_view data, Mark mark) const {
    size_t end = data.size();
    if (mark == Mark::kStrip) {
      while (end > 0) {
        const DecodedChar c = DecodeCharBefore(data, end);
        if (!IsSpace(c.value)) break;
        end -= c.size;
      }
    } else if (mark == Mark::kNone) {
      // lstrip_blocks: blanks between the begin of the line and the tag go.
      const size_t newline = data.rfind('\n');
      if (newline == kNone && !line_starting_) return data;
      const size_t line = newline == kNone ? 0 : newline + 1;
      if (data.find_first_not_of(" \t", line) == kNone) end = line;
    }
    return data.substr(0, end);
  }

  absl::Status LexComment(size_t body) {
    const size_t close = text_.find("#}", body);
    if (close == kNone) return TemplateError(line_, "Missing end of comment tag");
    const bool marked = close > body;
    Advance(EndOfTag(close + 2, marked && text_[close - 1] == '-',
                     /*trim_newline=*/!(marked && text_[close - 1] == '+')));
    return absl::OkStatus();
  }

  // {% raw %} was passed. Its newline stays, unlike that after any other block.
  absl::Status LexRaw() {
    for (size_t tag = text_.find("{%", at_); tag != kNone; tag = text_.find("{%", tag + 2)) {
      const Mark mark = ReadMark(tag + 2);
      size_t end = 0;
      if (!MatchTagWord(tag + (mark == Mark::kNone ? 2 : 3), "endraw", &end)) continue;
      EmitData(StripBeforeTag(text_.substr(at_, tag - at_), mark));
      Advance(end);
      return absl::OkStatus();
    }
    return TemplateError(line_, "Missing end of raw directive");
  }

  // Does `word` and the end of a block stand at `at`? Sets *end behind it, whitespace included.
  bool MatchTagWord(size_t at, absl::string_view word, size_t* end) const {
    at = SkipSpace(at);
    if (text_.substr(at, word.size()) != word) return false;
    at = SkipSpace(at + word.size());
    const Mark mark = ReadMark(at);
    if (mark != Mark::kNone) ++at;
    if (text_.substr(at, 2) != "%}" || (word == "raw" && mark == Mark::kKeep)) return false;
    *end = EndOfTag(at + 2, mark == Mark::kStrip, word != "raw" && mark == Mark::kNone);
    return true;
  }

  size_t EndOfTag(size_t at, bool strip, bool trim_newline) const {
    if (strip) return SkipSpace(at);
    return trim_newline && at < text_.size() && text_[at] == '\n' ? at + 1 : at;
  }

  // --- Inside {{ }} and {% %} -------------------------------------------------------------------

  // `closer` is the character before the closing brace.
  absl::Status LexTag(char closer) {
    const bool is_block = closer == '%';
    std::string open;  // brackets waiting for their partner
    while (at_ < text_.size()) {
      size_t end = 0;
      if (open.empty() && MatchTagEnd(is_block, &end)) {
        Emit(is_block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, "");
        Advance(end);
        return absl::OkStatus();
      }
      const DecodedChar c = DecodeChar(text_, at_);
      if (IsSpace(c.value)) {
        Advance(at_ + c.size);
      } else if (IsDigitByte(text_[at_])) {
        RETURN_IF_ERROR(LexNumber());
      } else if (IsNameByte(text_[at_])) {
        RETURN_IF_ERROR(LexName());
      } else if (text_[at_] == '"' || text_[at_] == '\'') {
        RETURN_IF_ERROR(LexString());
      } else {
        RETURN_IF_ERROR(LexOperator(&open));
      }
    }
    return TemplateError(line_, "unexpected end of template inside a tag");
  }

  bool MatchTagEnd(bool is_block, size_t* end) const {
    const absl::string_view rest = text_.substr(at_, 3);
    const absl::string_view close = is_block ? "%}" : "}}";
    if (rest.substr(0, 2) == close) {
      *end = EndOfTag(at_ + 2, false, is_block);
    } else if (rest.substr(0, 1) == "-" && rest.substr(1) == close) {
      *end = EndOfTag(at_ + 3, true, false);
    } else if (is_block && rest.substr(0, 1) == "+" && rest.substr(1) == close) {
      *end = at_ + 3;
    } else {
      return false;
    }
    return true;
  }

  absl::Status LexName() {
    size_t end = at_;
    while (end < text_.size() && IsNameByte(text_[end])) ++end;
    const absl::string_view name = text_.substr(at_, end - at_);
    for (size_t i = 0; i < name.size();) {
      const DecodedChar c = DecodeChar(name, i);
      if (!IsWord(c.value)) return TemplateError(line_, absl::StrCat("Invalid name '", name, "'"));
      i += c.size;
    }
    Emit(TokenKind::kName, name);
    Advance(end);
    return absl::OkStatus();
  }

  size_t SkipDigits(size_t at) const {
    while (at < text_.size() && (IsDigitByte(text_[at]) || text_[at] == '_')) ++at;
    return at;
  }
  bool DigitAt(size_t at) const { return at < text_.size() && IsDigitByte(text_[at]); }

  absl::Status LexNumber() {
    const absl::string_view prefix = text_.substr(at_, 2);
    int base = 10;
    if (prefix == "0x" || prefix == "0X") base = 16;
    if (prefix == "0o" || prefix == "0O") base = 8;
    if (prefix == "0b" || prefix == "0B") base = 2;
    size_t end = at_;
    bool is_float = false;
    if (base != 10) {
      end += 2;
      while (end < text_.size() &&
             (absl::ascii_isxdigit(static_cast<unsigned char>(text_[end])) || text_[end] == '_')) {
        ++end;
      }
    } else {
      end = SkipDigits(end);
      // After a dot it is an index: x.0.1 has no float in it.
      const bool after_dot = !tokens_.empty() && tokens_.back().IsOperator(".");
      if (!after_dot && end < text_.size() && text_[end] == '.' && DigitAt(end + 1)) {
        is_float = true;
        end = SkipDigits(end + 1);
      }
      if (!after_dot && end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
        const size_t sign = end + 1 < text_.size() && absl::StrContains("+-", text_[end + 1]);
        if (DigitAt(end + 1 + sign)) {
          is_float = true;
          end = SkipDigits(end + 1 + sign);
        }
      }
    }
    std::string digits(text_.substr(at_, end - at_));
    digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
    return EmitNumber(digits, base, is_float, end);
  }

  absl::Status EmitNumber(const std::string& digits, int base, bool is_float, size_t end) {
    Token token = {.kind = is_float ? TokenKind::kFloat : TokenKind::kInteger,
                   .line = line_,
                   .text = digits,
                   .integer = 0,
                   .number = 0};
    bool valid = true;
    if (is_float) {
      valid = absl::SimpleAtod(digits, &token.number);
    } else if (base == 10) {
      valid = absl::SimpleAtoi(digits, &token.integer);
    } else {
      char* parsed = nullptr;
      errno = 0;
      token.integer = std::strtoll(digits.c_str() + 2, &parsed, base);
      valid = errno == 0 && *parsed == '\0' && digits.size() > 2;
    }
    if (!valid) {
      return TemplateError(line_, absl::StrCat("the number ", digits, " does not fit in 64 bits"));
    }
    tokens_.push_back(std::move(token));
    Advance(end);
    return absl::OkStatus();
  }

  absl::Status LexString() {
    const char quote = text_[at_];
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) return TemplateError(line_, "a string is not closed");
    absl::StatusOr<std::string> value = ResolveEscapes(text_.substr(at_ + 1, end - at_ - 1));
    if (!value.ok()) return TemplateError(line_, value.status().message());
    Emit(TokenKind::kString, *value);
    Advance(end + 1);
    return absl::OkStatus();
  }

  absl::Status LexOperator(std::string* open) {
    for (absl::string_view op : {"//", "**", "==", "!=", "<=", ">="}) {
      if (text_.substr(at_, 2) != op) continue;
      Emit(TokenKind::kOperator, op);
      Advance(at_ + 2);
      return absl::OkStatus();
    }
    const char c = text_[at_];
    if (!absl::StrContains("+-/*%~[](){}><=.:|,;", c)) {
      return TemplateError(line_, absl::StrCat("unexpected char '", text_.substr(at_, 1), "'"));
    }
    if (c == '(') open->push_back(')');
    if (c == '[') open->push_back(']');
    if (c == '{') open->push_back('}');
    if (c == ')' || c == ']' || c == '}') {
      if (open->empty() || open->back() != c) {
        const std::string wanted =
            open->empty() ? "" : absl::StrCat(", expected '", open->substr(open->size() - 1), "'");
        return TemplateError(line_, absl::StrCat("unexpected '", std::string(1, c), "'", wanted));
      }
      open->pop_back();
    }
    Emit(TokenKind::kOperator, text_.substr(at_, 1));
    Advance(at_ + 1);
    return absl::OkStatus();
  }

  // --- Output and position ----------------------------------------------------------------------

  size_t SkipSpace(size_t at) const {
    while (at < text_.size()) {
      const DecodedChar c = DecodeChar(text_, at);
      if (!IsSpace(c.value)) break;
      at += c.size;
    }
    return at;
  }

  void Emit(TokenKind kind, absl::string_view text) {
    tokens_.push_back(
        {.kind = kind, .line = line_, .text = std::string(text), .integer = 0, .number = 0});
  }
  void EmitData(absl::string_view data) {
    if (!data.empty()) Emit(TokenKind::kData, data);
  }

  void Advance(size_t to) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<int64_t>(at_),
                                         text_.begin() + static_cast<int64_t>(to), '\n'));
    if (to > at_) line_starting_ = text_[to - 1] == '\n';
    at_ = to;
  }

  const std::string storage_;
  const absl::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // the last thing passed ended a line
  std::vector<Token> tokens_;
};

}  // namespace

absl::Status TemplateError(int line, absl::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat("chat template line ", line, ": ", message));
}

absl::StatusOr<std::vector<Token>> Tokenize(absl::string_view source) {
  return Lexer(source).Run();
}

}  // namespace moelight::jinja
