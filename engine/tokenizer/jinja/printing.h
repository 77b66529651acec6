// How values print: str() and repr() of Python.
//
// Thread-safe. Errors: ResourceExhausted when the text is larger than the meter allows.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_PRINTING_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_PRINTING_H_

#include <absl/status/statusor.h>

#include "engine/tokenizer/jinja/value.h"

namespace moelight::jinja {

// A string is itself, an undefined value the empty string. Anything else prints as a whole: if any
// string in it is the user's, all of the text is.
absl::StatusOr<Str> Text(Meter& meter, const Value& value);
absl::StatusOr<Str> Repr(Meter& meter, const Value& value);

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_PRINTING_H_
