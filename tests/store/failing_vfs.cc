#include "tests/store/failing_vfs.h"

#include <atomic>

#include <sqlite3.h>

#include "engine/base/check.h"

namespace moelight {
namespace {

std::atomic<DiskFailure> g_failure = DiskFailure::kNone;

// A file of the platform's VFS whose methods were replaced by a copy with ours in it. The
// platform's own are found again through the table, which is the same for all files of one kind.
struct PatchedMethods {
  sqlite3_io_methods methods;
  const sqlite3_io_methods* platform;
};

// xClose and the rest go straight to the platform, so the first member must stay its table.
const PatchedMethods& Patched(sqlite3_file* file) {
  return *reinterpret_cast<const PatchedMethods*>(file->pMethods);
}

int Write(sqlite3_file* file, const void* data, int size, sqlite3_int64 offset) {
  if (g_failure == DiskFailure::kWrite) return SQLITE_IOERR_WRITE;
  if (g_failure == DiskFailure::kFull) return SQLITE_FULL;
  return Patched(file).platform->xWrite(file, data, size, offset);
}

int Sync(sqlite3_file* file, int flags) {
  if (g_failure == DiskFailure::kSync) return SQLITE_IOERR_FSYNC;
  return Patched(file).platform->xSync(file, flags);
}

int Open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
  auto* platform = static_cast<sqlite3_vfs*>(vfs->pAppData);
  const int code = platform->xOpen(platform, name, file, flags, out_flags);
  if (code != SQLITE_OK || file->pMethods == nullptr) return code;
  // One per open file and never freed: a handful of bytes in a test.
  static constexpr int kMaxFiles = 4096;
  static PatchedMethods patched[kMaxFiles];
  static std::atomic<int> used = 0;
  const int i = used++;
  CHECK_LT(i, kMaxFiles);
  patched[i] = {*file->pMethods, file->pMethods};
  patched[i].methods.xWrite = Write;
  patched[i].methods.xSync = Sync;
  file->pMethods = &patched[i].methods;
  return code;
}

sqlite3_vfs* MakeVfs() {
  static sqlite3_vfs vfs;
  sqlite3_vfs* platform = sqlite3_vfs_find(nullptr);
  vfs = *platform;
  vfs.zName = kFailingVfsName;
  vfs.pAppData = platform;
  vfs.xOpen = Open;
  CHECK_EQ(sqlite3_vfs_register(&vfs, /*makeDflt=*/0), SQLITE_OK);
  return &vfs;
}

}  // namespace

void SetDiskFailure(DiskFailure failure) {
  static sqlite3_vfs* const registered = MakeVfs();
  CHECK(registered != nullptr);
  g_failure = failure;
}

}  // namespace moelight
