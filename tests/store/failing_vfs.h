// FailingVfs: a SQLite VFS that passes everything to the platform's until it is told to fail.
//
// Threads: SetFailing and the failing calls may come from any thread. Register once per process and
// name; SQLite keeps it for ever.
#ifndef MOELIGHT_TESTS_STORE_FAILING_VFS_H_
#define MOELIGHT_TESTS_STORE_FAILING_VFS_H_

namespace moelight {

enum class DiskFailure { kNone, kSync, kWrite, kFull };

// The VFS of this name fails in this way from now on. Registers it first if needed.
inline constexpr char kFailingVfsName[] = "moelight_failing";
void SetDiskFailure(DiskFailure failure);

}  // namespace moelight

#endif  // MOELIGHT_TESTS_STORE_FAILING_VFS_H_
