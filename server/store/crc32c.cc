#include "server/store/crc32c.h"

#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

namespace moelight {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // Castagnoli, bit-reversed
constexpr int kSlices = 8;                    // bytes consumed per round

using Tables = std::array<std::array<uint32_t, 256>, kSlices>;

// tables[s][b] is the effect of byte b followed by s zero bytes.
constexpr Tables MakeTables() {
  Tables tables = {};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (int slice = 1; slice < kSlices; ++slice) {
    for (int byte = 0; byte < 256; ++byte) {
      const uint32_t previous = tables[slice - 1][byte];
      tables[slice][byte] = (previous >> 8) ^ tables[0][previous & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

}  // namespace

uint32_t Crc32c(absl::string_view data) {
  static_assert(std::endian::native == std::endian::little, "the rounds read little-endian words");
  const char* p = data.data();
  size_t left = data.size();
  uint32_t crc = 0xffffffff;
  for (; left >= kSlices; p += kSlices, left -= kSlices) {
    uint64_t word;
    std::memcpy(&word, p, sizeof(word));
    word ^= crc;
    crc = 0;
    for (int slice = 0; slice < kSlices; ++slice) {
      crc ^= kTables[kSlices - 1 - slice][(word >> (8 * slice)) & 0xff];
    }
  }
  for (; left > 0; ++p, --left) {
    crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<uint8_t>(*p)) & 0xff];
  }
  return crc ^ 0xffffffff;
}

}  // namespace moelight
