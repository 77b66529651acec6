// Reading regular files of a model folder.
//
// Reads go through pread, not a memory map: a file that is truncated while it is read then gives an
// error instead of SIGBUS, and tensors at odd offsets arrive aligned.
#ifndef MOELIGHT_ENGINE_MODEL_FILE_H_
#define MOELIGHT_ENGINE_MODEL_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

namespace moelight {

// An open file. Threads: ReadAt is thread-safe. Owns: the descriptor.
class File {
 public:
  // Errors: NotFound or PermissionDenied as the system says; InvalidArgument if `path` is a folder
  // or a device. Never blocks on a pipe.
  static absl::StatusOr<File> Open(const std::string& path);

  File(File&& other) noexcept;
  File& operator=(File&&) = delete;
  ~File();

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }  // when it was opened

  // Fills `out` from `offset`. Errors: DataLoss if the file ends before, naming both.
  absl::Status ReadAt(int64_t offset, absl::Span<std::byte> out) const;

 private:
  File(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  std::string path_;
  int descriptor_ = -1;  // -1 once moved from
  int64_t size_ = 0;
};

// The whole file. Errors: as File; InvalidArgument if it is larger than `max_bytes`.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_MODEL_FILE_H_
