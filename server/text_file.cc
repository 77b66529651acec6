#include "server/text_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <absl/strings/str_cat.h>
#include <sys/stat.h>

namespace moelight {
namespace {

absl::Status WriteError(const std::string& file, absl::string_view what, int error) {
  return absl::UnavailableError(absl::StrCat(file, ": ", what, ": ", std::strerror(error)));
}

// 0, or errno of the call that failed.
int WriteAndSync(int descriptor, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    text.remove_prefix(written);
  }
  // mkstemp() makes files that only their owner reads.
  if (fchmod(descriptor, 0644) != 0 || fsync(descriptor) != 0) return errno;
  return 0;
}

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& file) {
  std::error_code error;
  if (std::filesystem::is_directory(file, error)) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": is a folder, not a file"));
  }
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return absl::InvalidArgumentError(absl::StrCat(file, ": cannot be opened"));
  std::string text(kMaxTextFileBytes + 1, '\0');
  stream.read(text.data(), text.size());
  if (stream.bad()) return absl::InvalidArgumentError(absl::StrCat(file, ": cannot be read"));
  text.resize(stream.gcount());
  if (text.size() > kMaxTextFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": larger than 1MiB, limit 1MiB"));
  }
  return text;
}

absl::Status WriteTextFile(const std::string& file, absl::string_view text) {
  // In the same folder, because a file cannot be renamed across file systems.
  std::string partial = absl::StrCat(file, ".XXXXXX");
  const int descriptor = mkostemp(partial.data(), O_CLOEXEC);
  if (descriptor < 0) return WriteError(file, "cannot be created", errno);
  int error = WriteAndSync(descriptor, text);
  if (close(descriptor) != 0 && error == 0) error = errno;
  if (error == 0 && std::rename(partial.c_str(), file.c_str()) != 0) error = errno;
  if (error == 0) return absl::OkStatus();
  unlink(partial.c_str());
  return WriteError(file, "cannot be written", error);
}

}  // namespace moelight
