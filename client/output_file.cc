#include "client/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

#include <absl/strings/str_cat.h>
#include <sys/stat.h>

#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

// Makes the new name durable. Some file systems cannot sync a folder; the data itself is safe then.
void SyncFolderOf(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  const int fd = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)fsync(fd);
  close(fd);
}

}  // namespace

absl::StatusOr<std::unique_ptr<OutputFile>> OutputFile::Open(const std::string& path,
                                                             std::ostream& standard_output) {
  std::unique_ptr<OutputFile> file(new OutputFile());
  if (path == "-") {
    file->stream_ = &standard_output;
    file->path_ = "standard output";
    return file;
  }
  file->path_ = path;
  struct stat info = {};
  const bool exists = stat(path.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat("cannot write ", path, ": it is a folder"));
  }
  if (exists && !S_ISREG(info.st_mode)) {
    file->fd_ = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (file->fd_ < 0) return file->SystemError("open");
    return file;
  }
  // Through a symbolic link the file behind it is replaced, not the link.
  std::error_code error;
  const std::filesystem::path target = std::filesystem::weakly_canonical(path, error);
  if (!error) file->path_ = target.string();
  file->partial_path_ = absl::StrCat(file->path_, ".partial");
  file->fd_ = open(file->partial_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file->fd_ < 0) {
    absl::Status status = file->SystemError("create");
    file->partial_path_.clear();
    return status;
  }
  return file;
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  close(fd_);
  if (!partial_path_.empty()) unlink(partial_path_.c_str());
}

absl::Status OutputFile::WriteLine(absl::string_view line) {
  absl::StrAppend(&buffer_, line, "\n");
  return buffer_.size() < kBufferBytes ? absl::OkStatus() : WriteBuffer();
}

absl::Status OutputFile::Flush() {
  return partial_path_.empty() ? WriteBuffer() : absl::OkStatus();
}

absl::Status OutputFile::Commit() {
  RETURN_IF_ERROR(WriteBuffer());
  if (stream_ != nullptr) return absl::OkStatus();
  if (partial_path_.empty()) return absl::OkStatus();
  if (fsync(fd_) != 0) return SystemError("sync");
  if (close(fd_) != 0) {
    fd_ = -1;
    return SystemError("close");
  }
  fd_ = -1;
  if (rename(partial_path_.c_str(), path_.c_str()) != 0) return SystemError("rename to");
  SyncFolderOf(path_);
  return absl::OkStatus();
}

absl::Status OutputFile::WriteBuffer() {
  if (stream_ != nullptr) {
    stream_->write(buffer_.data(), buffer_.size());
    stream_->flush();
    buffer_.clear();
    if (!stream_->good())
      return absl::FailedPreconditionError(absl::StrCat("cannot write ", path_));
    return absl::OkStatus();
  }
  absl::string_view rest = buffer_;
  while (!rest.empty()) {
    const ssize_t written = write(fd_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError("write");
    rest.remove_prefix(written);
  }
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status OutputFile::SystemError(absl::string_view action) const {
  const std::string reason = std::error_code(errno, std::generic_category()).message();
  return absl::FailedPreconditionError(absl::StrCat(
      "cannot ", action, " ", partial_path_.empty() ? path_ : partial_path_, ": ", reason));
}

}  // namespace moelight::client
