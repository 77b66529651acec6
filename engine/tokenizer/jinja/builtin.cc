#include "engine/tokenizer/jinja/builtin.h"

#include <algorithm>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/operators.h"

namespace moelight::jinja {

absl::StatusOr<Args> Args::Bind(const Builtin& builtin, const Arguments& arguments) {
  Args args(&builtin, &arguments);
  if (builtin.variadic) return args;
  const auto& names = builtin.parameters;
  const int num_parameters =
      static_cast<int>(std::find(names.begin(), names.end(), absl::string_view()) - names.begin());
  if (arguments.positional.size() > static_cast<size_t>(num_parameters)) {
    return absl::InvalidArgumentError(absl::StrCat(builtin.name, " takes at most ", num_parameters,
                                                   " arguments, not ",
                                                   arguments.positional.size()));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    args.values_[i] = &arguments.positional[i];
  }
  for (const auto& [name, value] : arguments.keyword) {
    const auto* at = std::find(names.begin(), names.begin() + num_parameters, name);
    if (at == names.begin() + num_parameters) {
      return absl::InvalidArgumentError(
          absl::StrCat(builtin.name, " has no argument named '", name, "'"));
    }
    const Value*& slot = args.values_[at - names.begin()];
    if (slot != nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(builtin.name, " got two values for its argument '", name, "'"));
    }
    slot = &value;
  }
  for (int i = 0; i < builtin.num_required; ++i) {
    if (args.has(i)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(builtin.name, " needs its argument '", names[i], "'"));
  }
  return args;
}

absl::Status Args::WrongType(int index, absl::string_view wanted) const {
  return absl::InvalidArgumentError(absl::StrCat("argument '", builtin_->parameters[index], "' of ",
                                                 builtin_->name, " must be ", wanted, ", not ",
                                                 (*this)[index].type_name()));
}

bool Args::Bool(int index, bool unset) const { return has(index) ? Truthy((*this)[index]) : unset; }

absl::StatusOr<int64_t> Args::Int(int index, int64_t unset) const {
  if (!has(index)) return unset;
  if (!(*this)[index].is_integral()) return WrongType(index, "an integer");
  return (*this)[index].as_int();
}

absl::StatusOr<Str> Args::String(int index, absl::string_view unset) const {
  if (!has(index)) return Str::Literal(std::string(unset));
  if (!(*this)[index].is_string()) return WrongType(index, "a string");
  return (*this)[index].as_string();
}

absl::StatusOr<Value> Builtin::Call(Runtime& runtime, const Value& self,
                                    const Arguments& arguments) const {
  ASSIGN_OR_RETURN(const Args args, Args::Bind(*this, arguments));
  return function(runtime, self, args);
}

const Builtin* FindBuiltin(absl::Span<const Builtin> table, absl::string_view name) {
  const auto it = std::find_if(table.begin(), table.end(),
                               [name](const Builtin& row) { return row.name == name; });
  return it == table.end() ? nullptr : &*it;
}

}  // namespace moelight::jinja
