// Filters (`value|name(...)`), tests (`value is name`) and global functions: one row per name in
// the tables of string_filters.cc, value_filters.cc, sequence_filters.cc, tests.cc, functions.cc.
//
// Threads: tables are constants.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_FILTERS_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_FILTERS_H_

#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "engine/tokenizer/jinja/builtin.h"

namespace moelight::jinja {

// Null if there is none of the name.
const Builtin* FindFilter(absl::string_view name);
const Builtin* FindTest(absl::string_view name);  // its result is a bool
const Builtin* FindFunction(absl::string_view name);

absl::Span<const Builtin> StringFilters();
absl::Span<const Builtin> ValueFilters();
absl::Span<const Builtin> SequenceFilters();

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_FILTERS_H_
