// Methods of strings, lists, tuples, dicts and floats: one row per name in the tables of
// string_methods.cc and container_methods.cc.
//
// Threads: tables are constants; a bound method belongs to one rendering.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_METHODS_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_METHODS_H_

#include <optional>

#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "engine/tokenizer/jinja/builtin.h"
#include "engine/tokenizer/jinja/value.h"

namespace moelight::jinja {

// The method of the name, bound to `self`; nullopt if there is none. Methods that change a list or
// dict are undefined values that say so: the sandbox has only immutable ones.
std::optional<Value> FindMethod(const Value& self, absl::string_view name);

absl::Span<const Builtin> StringMethods();
absl::Span<const Builtin> DictMethods();
absl::Span<const Builtin> ListMethods();  // of tuples too
absl::Span<const Builtin> FloatMethods();

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_METHODS_H_
