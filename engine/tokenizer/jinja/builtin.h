// Builtin: one row of the tables of filters, tests, methods and functions, and how arguments reach
// it.
//
// A new built-in is one function and one row: `{"name", {"first", "second"}, 1, Function}` takes
// `first`, and `second` optionally, both by position or by name as in Python.
//
// Threads: tables are constants. Errors: InvalidArgument naming the built-in and the argument.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_BUILTIN_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_BUILTIN_H_

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "engine/tokenizer/jinja/object.h"
#include "engine/tokenizer/jinja/runtime.h"
#include "engine/tokenizer/jinja/value.h"

namespace moelight::jinja {

struct Builtin;

// The arguments of one call, put in the order of the row's parameters.
class Args {
 public:
  // InvalidArgument for one too many, one missing, an unknown name or one given twice.
  static absl::StatusOr<Args> Bind(const Builtin& builtin, const Arguments& arguments);

  bool has(int index) const { return values_[index] != nullptr; }
  // REQUIRES: has(index).
  const Value& operator[](int index) const { return *values_[index]; }
  bool given_not_none(int index) const { return has(index) && !values_[index]->is_none(); }

  bool Bool(int index, bool unset) const;
  absl::StatusOr<int64_t> Int(int index, int64_t unset) const;
  absl::StatusOr<Str> String(int index, absl::string_view unset) const;
  const Arguments& all() const { return *arguments_; }  // for variadic rows

 private:
  Args(const Builtin* builtin, const Arguments* arguments)
      : builtin_(builtin), arguments_(arguments) {}
  absl::Status WrongType(int index, absl::string_view wanted) const;

  static constexpr int kMaxParameters = 5;
  const Builtin* builtin_;
  const Arguments* arguments_;  // outlives this: the caller's
  std::array<const Value*, kMaxParameters> values_ = {};
};

struct Builtin {
  using Function = absl::StatusOr<Value> (*)(Runtime& runtime, const Value& self, const Args& args);

  absl::string_view name;
  std::array<absl::string_view, 5> parameters;  // those in use first
  int num_required;
  Function function;
  bool variadic = false;  // takes what it is given, unbound

  absl::StatusOr<Value> Call(Runtime& runtime, const Value& self, const Arguments& arguments) const;
};

// The row of the name; null if there is none.
const Builtin* FindBuiltin(absl::Span<const Builtin> table, absl::string_view name);

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_BUILTIN_H_
