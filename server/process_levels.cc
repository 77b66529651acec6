#include "server/process_levels.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <system_error>

namespace moelight {

int64_t ResidentMemoryBytes() {
  // Sizes in pages: of the address space, then of what is in RAM.
  std::ifstream stream("/proc/self/statm");
  int64_t num_virtual_pages = 0, num_resident_pages = 0;
  if (!(stream >> num_virtual_pages >> num_resident_pages)) return 0;
  return num_resident_pages * sysconf(_SC_PAGESIZE);
}

int64_t FreeDiskBytes(const std::string& path) {
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(path, error);
  return error ? 0 : static_cast<int64_t>(space.available);
}

}  // namespace moelight
