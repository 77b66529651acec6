// The objects with state that a rendering makes: namespaces and macros. Only for interpreter*.cc.
//
// Threads: none. Ownership: values share them; the Interpreter empties them at its end.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_INTERPRETER_OBJECTS_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_INTERPRETER_OBJECTS_H_

#include <optional>
#include <string>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/tokenizer/jinja/interpreter.h"
#include "engine/tokenizer/jinja/object.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight::jinja {

// namespace(): the one thing whose attributes a template may set, also from an inner scope.
class Interpreter::Namespace : public Object {
 public:
  absl::string_view type_name() const override { return "Namespace"; }
  std::string Text() const override { return "<Namespace>"; }
  std::optional<Value> Attribute(absl::string_view name) const override {
    const Value* value = attributes_.Find(name);
    return value == nullptr ? std::nullopt : std::make_optional(*value);
  }
  void Set(absl::string_view name, Value value) { attributes_.Set(name, std::move(value)); }
  void Clear() { attributes_.Clear(); }

 private:
  Scope attributes_{nullptr};
};

class Interpreter::Macro : public Object {
 public:
  Macro(Interpreter* interpreter, const MacroStmt* definition, ScopePtr scope)
      : interpreter_(*interpreter), definition_(*definition), scope_(std::move(scope)) {}

  absl::string_view type_name() const override { return "Macro"; }
  std::string Text() const override {
    return absl::StrCat("<Macro ", QuoteText(definition_.name), ">");
  }
  std::optional<Value> Attribute(absl::string_view name) const override {
    return name == "name" ? std::make_optional(Value::Literal(definition_.name)) : std::nullopt;
  }
  bool callable() const override { return true; }
  absl::StatusOr<Value> Call(Runtime&, const Arguments& arguments) override {
    return interpreter_.CallMacro(*this, arguments);
  }

  const MacroStmt& definition() const { return definition_; }
  const ScopePtr& scope() const { return scope_; }  // around the definition

 private:
  Interpreter& interpreter_;
  const MacroStmt& definition_;
  const ScopePtr scope_;
};

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_INTERPRETER_OBJECTS_H_
