// OutputFile: a file that appears under its name only when it is whole.
//
// Lines go to PATH.partial; Commit() makes them durable and renames it. Without Commit() the
// partial file is removed and PATH stays as it was. "-" is a stream, and a path that exists and is
// not a regular file (a pipe, /dev/stdout) is written directly.
//
// Threads: one. Owns: the descriptor and a write buffer.
// Errors: FailedPrecondition naming the path and the system's reason.
#ifndef MOELIGHT_CLIENT_OUTPUT_FILE_H_
#define MOELIGHT_CLIENT_OUTPUT_FILE_H_

#include <memory>
#include <ostream>
#include <string>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

namespace moelight::client {

class OutputFile {
 public:
  // `standard_output` is written to if `path` is "-"; it must outlive the object.
  static absl::StatusOr<std::unique_ptr<OutputFile>> Open(const std::string& path,
                                                          std::ostream& standard_output);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  absl::Status WriteLine(absl::string_view line);
  // Hands buffered lines on where somebody may be reading along: a stream, not a partial file.
  absl::Status Flush();
  absl::Status Commit();

 private:
  OutputFile() = default;
  absl::Status WriteBuffer();
  absl::Status SystemError(absl::string_view action) const;

  std::ostream* stream_ = nullptr;  // set: "-"
  int fd_ = -1;
  std::string path_;
  std::string partial_path_;  // empty: written directly
  std::string buffer_;
};

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_OUTPUT_FILE_H_
