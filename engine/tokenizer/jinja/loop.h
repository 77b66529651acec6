// Loop: the `loop` variable inside a for statement.
//
// Threads: none. Ownership: shares the items walked.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_LOOP_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_LOOP_H_

#include <optional>
#include <string>
#include <utility>

#include "engine/tokenizer/jinja/object.h"
#include "engine/tokenizer/jinja/value.h"

namespace moelight::jinja {

class Loop : public Object {
 public:
  explicit Loop(SequencePtr items) : items_(std::move(items)) {}

  void Advance(size_t index) { index_ = index; }

  absl::string_view type_name() const override { return "LoopContext"; }
  std::string Text() const override;
  std::optional<Value> Attribute(absl::string_view name) const override;
  int depth() const override { return items_->depth + 1; }

 private:
  const SequencePtr items_;
  size_t index_ = 0;
};

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_LOOP_H_
