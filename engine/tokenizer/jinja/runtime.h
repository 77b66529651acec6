// Runtime: what built-in filters, tests, methods and functions may ask of the interpreter.
//
// Threads: one per rendering. Errors: those of what is called.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_RUNTIME_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_RUNTIME_H_

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/time/time.h>

#include "engine/tokenizer/jinja/object.h"
#include "engine/tokenizer/jinja/value.h"

namespace moelight::jinja {

class Runtime {
 public:
  virtual ~Runtime() = default;

  virtual Meter& meter() = 0;
  virtual absl::Time now() const = 0;  // the time of the rendering, for strftime_now
  // InvalidArgument if there is no filter or test of the name.
  virtual absl::StatusOr<Value> CallFilter(absl::string_view name, const Value& subject,
                                           const Arguments& arguments) = 0;
  virtual absl::StatusOr<bool> CallTest(absl::string_view name, const Value& subject,
                                        const Arguments& arguments) = 0;
  // A new namespace(). The interpreter empties it at its end.
  virtual absl::StatusOr<Value> MakeNamespace(const Dict& attributes) = 0;
  // From here on an error is the template author's own words and keeps them unchanged.
  virtual void MarkRaised() = 0;
};

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_RUNTIME_H_
