#include "engine/tokenizer/jinja/loop.h"

#include <memory>

#include <absl/strings/str_cat.h>

namespace moelight::jinja {
namespace {

// loop.cycle(a, b, ...): one of its arguments, in turn.
class Cycle : public Object {
 public:
  explicit Cycle(size_t index) : index_(index) {}
  absl::string_view type_name() const override { return "method"; }
  bool callable() const override { return true; }
  absl::StatusOr<Value> Call(Runtime&, const Arguments& arguments) override {
    if (arguments.positional.empty()) {
      return absl::InvalidArgumentError("no items for cycling given");
    }
    return arguments.positional[index_ % arguments.positional.size()];
  }

 private:
  const size_t index_;
};

}  // namespace

std::string Loop::Text() const {
  return absl::StrCat("<LoopContext ", index_ + 1, "/", items_->items.size(), ">");
}

std::optional<Value> Loop::Attribute(absl::string_view name) const {
  const size_t size = items_->items.size();
  const auto number = [](size_t value) { return Value::Int(static_cast<int64_t>(value)); };
  if (name == "index") return number(index_ + 1);
  if (name == "index0") return number(index_);
  if (name == "revindex") return number(size - index_);
  if (name == "revindex0") return number(size - index_ - 1);
  if (name == "first") return Value::Bool(index_ == 0);
  if (name == "last") return Value::Bool(index_ + 1 == size);
  if (name == "length") return number(size);
  if (name == "depth") return number(1);
  if (name == "depth0") return number(0);
  if (name == "cycle") return Value::Of(ObjectPtr(std::make_shared<Cycle>(index_)));
  if (name == "previtem") {
    return index_ > 0 ? items_->items[index_ - 1] : Value::Undefined("there is no previous item");
  }
  if (name == "nextitem") {
    return index_ + 1 < size ? items_->items[index_ + 1]
                             : Value::Undefined("there is no next item");
  }
  return std::nullopt;
}

}  // namespace moelight::jinja
