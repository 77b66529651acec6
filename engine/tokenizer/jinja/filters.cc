#include "engine/tokenizer/jinja/filters.h"

namespace moelight::jinja {

const Builtin* FindFilter(absl::string_view name) {
  for (const absl::Span<const Builtin> table :
       {StringFilters(), ValueFilters(), SequenceFilters()}) {
    if (const Builtin* filter = FindBuiltin(table, name)) return filter;
  }
  return nullptr;
}

}  // namespace moelight::jinja
