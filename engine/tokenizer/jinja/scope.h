// Scope: the variables of one part of a template, in front of those around it.
//
// Sets go to the innermost scope and reads look outward, which is what Jinja's rules come to: a
// loop's body, a macro or a block sees what is outside, and what it sets is gone after it.
//
// Threads: belongs to one rendering. Ownership: shared by the interpreter and by macros defined in
// it, which the interpreter unties at its end.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_SCOPE_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_SCOPE_H_

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include <absl/strings/string_view.h>

#include "engine/tokenizer/jinja/value.h"

namespace moelight::jinja {

class Scope;
using ScopePtr = std::shared_ptr<Scope>;

class Scope {
 public:
  explicit Scope(ScopePtr parent) : parent_(std::move(parent)) {}

  void Set(absl::string_view name, Value value) {
    const auto it = variables_.find(name);
    if (it != variables_.end()) {
      it->second = std::move(value);
    } else {
      variables_.emplace(std::string(name), std::move(value));
    }
  }

  // Null if no scope has it.
  const Value* Find(absl::string_view name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent_.get()) {
      const auto it = scope->variables_.find(name);
      if (it != scope->variables_.end()) return &it->second;
    }
    return nullptr;
  }

  void Clear() { variables_.clear(); }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(absl::string_view name) const {
      return std::hash<std::string_view>()(std::string_view(name.data(), name.size()));
    }
  };

  const ScopePtr parent_;
  std::unordered_map<std::string, Value, Hash, std::equal_to<>> variables_;
};

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_SCOPE_H_
