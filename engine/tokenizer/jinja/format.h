// Python's two ways to format: "%s" % x and "{}".format(x), in the parts that templates use.
//
// Thread-safe. Pieces keep the user's spans; a converted or padded number is the template's.
// Errors: InvalidArgument for conversions that are not supported and for wrong arguments.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_FORMAT_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_FORMAT_H_

#include <absl/status/statusor.h>

#include "engine/tokenizer/jinja/object.h"
#include "engine/tokenizer/jinja/value.h"

namespace moelight::jinja {

// `arguments` is a tuple of the values, a dict for %(name)s, or the only value.
absl::StatusOr<Str> FormatPercent(Meter& meter, const Str& format, const Value& arguments);

// {}, {0}, {name}, each with an optional :[[fill]align][sign][0][width][,][.precision][type].
// Attributes and subscripts inside the braces are refused.
absl::StatusOr<Str> FormatBraces(Meter& meter, const Str& format, const Arguments& arguments);

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_FORMAT_H_
