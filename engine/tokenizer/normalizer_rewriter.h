// NormalizedTextRewriter: builds the result of a normalizer from left to right, with its marks.
#ifndef MOELIGHT_ENGINE_TOKENIZER_NORMALIZER_REWRITER_H_
#define MOELIGHT_ENGINE_TOKENIZER_NORMALIZER_REWRITER_H_

#include <cstddef>
#include <string>
#include <utility>

#include <absl/strings/string_view.h>

#include "engine/tokenizer/normalizer.h"

namespace moelight {

class NormalizedTextRewriter {
 public:
  // `text` stays as it is until Finish() and must outlive the rewriter.
  explicit NormalizedTextRewriter(NormalizedText* text) : text_(text) {
    result_.text.reserve(text->text.size());
  }

  absl::string_view source() const { return text_->text; }

  // Copies source bytes [begin, end) with their marks.
  void Copy(size_t begin, size_t end) {
    result_.text.append(text_->text, begin, end - begin);
    if (tracks()) result_.plain.append(text_->plain, begin, end - begin);
  }

  // Puts `content` where source bytes [begin, end) were. It is plain if any of them was.
  void Replace(size_t begin, size_t end, absl::string_view content) {
    result_.text.append(content.data(), content.size());
    if (!tracks()) return;
    const bool plain = absl::string_view(text_->plain).substr(begin, end - begin).find('\1') !=
                       absl::string_view::npos;
    result_.plain.append(content.size(), plain ? '\1' : '\0');
  }

  void Finish() { *text_ = std::move(result_); }

 private:
  bool tracks() const { return !text_->plain.empty(); }

  NormalizedText* const text_;
  NormalizedText result_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_NORMALIZER_REWRITER_H_
