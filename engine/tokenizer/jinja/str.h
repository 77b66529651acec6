// Str: an immutable string that knows which of its bytes came from the request; StrBuilder makes
// one.
//
// A chat template mixes its own text, where control tokens are meant, with text of users, where
// they must never be recognised. Every operation on strings therefore carries the user's spans
// along: pieces keep theirs, and what cannot be followed byte by byte taints its whole result.
//
// Threads: a Str is immutable and may be shared. Owns: a reference to shared bytes; copies are
// cheap. Allocates: in its constructors and in StrBuilder.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_STR_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_STR_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/tokenizer/byte_span.h"
#include "engine/tokenizer/jinja/meter.h"

namespace moelight::jinja {

class Str {
 public:
  Str();  // empty
  // Valid UTF-8 that the template wrote, or that the request sent.
  static Str Literal(std::string bytes);
  static Str FromRequest(std::string bytes);
  // `bytes` derived from strings that cannot be followed byte by byte: all of it is the user's if
  // any of them was.
  static Str Derived(std::string bytes, bool tainted) {
    return tainted ? FromRequest(std::move(bytes)) : Literal(std::move(bytes));
  }
  // The same length as `like`, character by character at the same place.
  static Str WithSpansOf(std::string bytes, const Str& like);

  absl::string_view view() const { return rep_->bytes; }
  const std::string& bytes() const { return rep_->bytes; }
  const std::vector<ByteSpan>& user_spans() const { return rep_->user_spans; }
  size_t size() const { return rep_->bytes.size(); }
  size_t num_chars() const { return rep_->num_chars; }
  bool empty() const { return rep_->bytes.empty(); }
  bool ascii() const { return rep_->num_chars == rep_->bytes.size(); }
  bool tainted() const { return !rep_->user_spans.empty(); }
  // Marked by `safe` or `escape`: joined to a plain string, the plain one is escaped.
  bool markup() const { return rep_->markup; }

  // Bytes [begin, end), both on character boundaries.
  Str Slice(size_t begin, size_t end) const;
  Str AsMarkup(bool markup) const;
  size_t OffsetOfChar(size_t index) const;  // its size if there are fewer characters

  // Equal text, whoever wrote it.
  friend bool operator==(const Str& a, const Str& b) { return a.view() == b.view(); }

 private:
  friend class StrBuilder;
  struct Rep {
    std::string bytes;
    std::vector<ByteSpan> user_spans;  // sorted, disjoint, not touching
    size_t num_chars = 0;
    bool markup = false;
  };
  explicit Str(Rep rep);

  std::shared_ptr<const Rep> rep_;
};

// Collects pieces. Past the meter's limit it drops them and Build() fails, so that no loop around
// it needs a check of its own.
class StrBuilder {
 public:
  explicit StrBuilder(Meter* meter) : meter_(meter) {}

  void Append(const Str& piece) { Append(piece, 0, piece.size()); }
  void Append(const Str& piece, size_t begin, size_t end);
  void AppendLiteral(absl::string_view bytes);
  size_t size() const { return rep_.bytes.size(); }
  bool overflown() const { return overflown_; }

  // Leaves the builder empty.
  absl::StatusOr<Str> Build();

 private:
  bool Reserve(size_t bytes);

  Meter* meter_;
  Str::Rep rep_;
  bool overflown_ = false;
};

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_STR_H_
