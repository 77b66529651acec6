// UnicodeRegex: the regexes of tokenizer.json, written for Oniguruma, run by PCRE2.
//
// Compile() refuses by name what the two engines would read differently, and rewrites what has an
// equal form. Threads: immutable, thread-safe. Errors: InvalidArgument for a pattern that does not
// compile or is not supported; ResourceExhausted if a search passes the match limits.
#ifndef MOELIGHT_ENGINE_TOKENIZER_UNICODE_REGEX_H_
#define MOELIGHT_ENGINE_TOKENIZER_UNICODE_REGEX_H_

#include <memory>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "engine/tokenizer/byte_span.h"

namespace moelight {

class UnicodeRegex {
 public:
  static absl::StatusOr<std::unique_ptr<UnicodeRegex>> Compile(absl::string_view pattern);
  ~UnicodeRegex();
  UnicodeRegex(const UnicodeRegex&) = delete;
  UnicodeRegex& operator=(const UnicodeRegex&) = delete;

  // Appends every match in `text` (valid UTF-8), left to right and disjoint. A match may be empty,
  // but not right behind the match before it.
  absl::Status FindAll(absl::string_view text, std::vector<ByteSpan>* matches) const;

 private:
  struct Impl;
  explicit UnicodeRegex(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_UNICODE_REGEX_H_
