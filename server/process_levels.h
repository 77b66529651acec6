// Levels of the process and its disk, as the system tells them.
//
// Threads: thread-safe. Each is one system call or two and none waits for a device.
#ifndef MOELIGHT_SERVER_PROCESS_LEVELS_H_
#define MOELIGHT_SERVER_PROCESS_LEVELS_H_

#include <cstdint>
#include <string>

namespace moelight {

int64_t ResidentMemoryBytes();  // 0: the system does not tell

// What an unprivileged process may still write on the disk of `path`; 0 if that cannot be told.
int64_t FreeDiskBytes(const std::string& path);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_PROCESS_LEVELS_H_
