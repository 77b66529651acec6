#include "engine/tokenizer/jinja/str.h"

#include <algorithm>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight::jinja {
namespace {

// Adds the parts of `spans` inside [begin, end), moved so that `begin` lands on `target`.
void AppendSpans(const std::vector<ByteSpan>& spans, size_t begin, size_t end, size_t target,
                 std::vector<ByteSpan>* out) {
  auto it = std::partition_point(spans.begin(), spans.end(),
                                 [begin](const ByteSpan& span) { return span.end <= begin; });
  for (; it != spans.end() && it->begin < end; ++it) {
    const size_t from = std::max(it->begin, begin) - begin + target;
    const size_t to = std::min(it->end, end) - begin + target;
    if (from == to) continue;
    if (!out->empty() && out->back().end == from) {
      out->back().end = to;
    } else {
      out->push_back({from, to});
    }
  }
}

}  // namespace

Str::Str() : rep_(std::make_shared<const Rep>()) {}

Str::Str(Rep rep) {
  rep.num_chars = CountChars(rep.bytes);
  rep_ = std::make_shared<const Rep>(std::move(rep));
}

Str Str::Literal(std::string bytes) {
  Rep rep;
  rep.bytes = std::move(bytes);
  return Str(std::move(rep));
}

Str Str::FromRequest(std::string bytes) {
  Rep rep;
  rep.bytes = std::move(bytes);
  if (!rep.bytes.empty()) rep.user_spans.push_back({0, rep.bytes.size()});
  return Str(std::move(rep));
}

Str Str::WithSpansOf(std::string bytes, const Str& like) {
  CHECK_EQ(bytes.size(), like.size());
  Rep rep;
  rep.bytes = std::move(bytes);
  rep.user_spans = like.user_spans();
  return Str(std::move(rep));
}

Str Str::Slice(size_t begin, size_t end) const {
  DCHECK(begin <= end && end <= size());
  if (begin == 0 && end == size()) return *this;
  Rep rep;
  rep.bytes = rep_->bytes.substr(begin, end - begin);
  rep.markup = rep_->markup;
  AppendSpans(rep_->user_spans, begin, end, 0, &rep.user_spans);
  return Str(std::move(rep));
}

Str Str::AsMarkup(bool markup) const {
  if (markup == rep_->markup) return *this;
  Rep rep = *rep_;
  rep.markup = markup;
  return Str(std::move(rep));
}

size_t Str::OffsetOfChar(size_t index) const {
  return ascii() ? std::min(index, size()) : ByteOffset(view(), index);
}

bool StrBuilder::Reserve(size_t bytes) {
  if (rep_.bytes.size() + bytes > static_cast<size_t>(meter_->max_value_bytes())) overflown_ = true;
  return !overflown_;
}

void StrBuilder::Append(const Str& piece, size_t begin, size_t end) {
  if (!Reserve(end - begin)) return;
  AppendSpans(piece.user_spans(), begin, end, rep_.bytes.size(), &rep_.user_spans);
  rep_.bytes.append(piece.bytes(), begin, end - begin);
}

void StrBuilder::AppendLiteral(absl::string_view bytes) {
  if (Reserve(bytes.size())) rep_.bytes.append(bytes.data(), bytes.size());
}

absl::StatusOr<Str> StrBuilder::Build() {
  if (overflown_) return meter_->ValueTooLarge();
  RETURN_IF_ERROR(meter_->Allocate(rep_.bytes.size()));
  Str result(std::move(rep_));
  rep_ = {};
  return result;
}

}  // namespace moelight::jinja
