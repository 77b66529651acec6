// Object: a value with behaviour (namespace, loop, macro, bound method), and Arguments of a call.
//
// Threads: belongs to one rendering. Ownership: shared by the values that refer to it; objects that
// could refer to themselves are emptied by the Interpreter at its end, so no cycle outlives it.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_OBJECT_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_OBJECT_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>

#include "engine/tokenizer/jinja/value.h"

namespace moelight::jinja {

class Runtime;

// What a call, filter or test is given, as written.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;  // each name once
};

class Object {
 public:
  virtual ~Object() = default;

  virtual absl::string_view type_name() const = 0;
  virtual std::string Text() const { return absl::StrCat("<", type_name(), ">"); }  // printed
  // nullopt: there is none of this name.
  virtual std::optional<Value> Attribute(absl::string_view name) const {
    (void)name;
    return std::nullopt;
  }
  virtual bool callable() const { return false; }
  virtual absl::StatusOr<Value> Call(Runtime& runtime, const Arguments& arguments) {
    (void)runtime;
    (void)arguments;
    return absl::InvalidArgumentError(absl::StrCat("'", type_name(), "' object is not callable"));
  }
  // Of the values it holds for ever; 0 if they cannot be walked or destroyed recursively.
  virtual int depth() const { return 0; }
};

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_OBJECT_H_
