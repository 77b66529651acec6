// CRC-32C (Castagnoli), the checksum of everything that the store keeps.
//
// Thread-safe. About 2 GB/s without special instructions, well above what the disk takes.
#ifndef MOELIGHT_SERVER_STORE_CRC32C_H_
#define MOELIGHT_SERVER_STORE_CRC32C_H_

#include <cstdint>

#include <absl/strings/string_view.h>

namespace moelight {

uint32_t Crc32c(absl::string_view data);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_CRC32C_H_
