// Small text files, read and written whole.
//
// Errors: InvalidArgument "FILE: reason" for what cannot be read, Unavailable for what cannot be
// written.
#ifndef MOELIGHT_SERVER_TEXT_FILE_H_
#define MOELIGHT_SERVER_TEXT_FILE_H_

#include <cstddef>
#include <string>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

namespace moelight {

// What people write has a few hundred lines. More than this is the wrong file.
inline constexpr size_t kMaxTextFileBytes = 1 << 20;

absl::StatusOr<std::string> ReadTextFile(const std::string& file);

// Whole or not at all: a reader finds the text that was there before or this one, also after a
// crash.
absl::Status WriteTextFile(const std::string& file, absl::string_view text);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_TEXT_FILE_H_
