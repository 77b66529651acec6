#include "server/store/row_chunk.h"

#include <bit>
#include <cstring>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"
#include "server/store/crc32c.h"

namespace moelight {
namespace {

// Stored as it lies in memory: the store's files are not moved between byte orders.
static_assert(std::endian::native == std::endian::little);
struct IndexEntry {
  uint32_t payload_end;      // where the row's bytes end in the payload
  uint32_t checksum;         // of the row's bytes
  uint64_t tokens_and_flag;  // estimated prompt tokens * 2 + (1 if refused)
};
static_assert(sizeof(IndexEntry) == 16);
constexpr size_t kIndexChecksumBytes = sizeof(uint32_t);

void AppendEntry(const EncodedRow& row, EncodedChunk& chunk) {
  chunk.payload += row.request;
  const bool refused = !row.refusal.empty();
  const IndexEntry entry = {
      static_cast<uint32_t>(chunk.payload.size()), Crc32c(row.request),
      static_cast<uint64_t>(row.prompt_tokens) << 1 | static_cast<uint64_t>(refused)};
  chunk.index.append(reinterpret_cast<const char*>(&entry), sizeof(entry));
  ++chunk.num_rows;
  if (refused) ++chunk.num_refused;
}

IndexEntry EntryAt(absl::string_view index, int64_t i) {
  IndexEntry entry;
  std::memcpy(&entry, index.data() + i * sizeof(entry), sizeof(entry));
  return entry;
}

bool IndexIsIntact(absl::string_view index, int64_t num_rows) {
  const size_t entries_bytes = static_cast<size_t>(num_rows) * sizeof(IndexEntry);
  if (num_rows < 0 || index.size() != entries_bytes + kIndexChecksumBytes) return false;
  uint32_t checksum;
  std::memcpy(&checksum, index.data() + entries_bytes, sizeof(checksum));
  return checksum == Crc32c(index.substr(0, entries_bytes));
}

}  // namespace

std::vector<EncodedChunk> EncodeChunks(const std::vector<EncodedRow>& rows, size_t begin,
                                       int64_t first_row) {
  std::vector<EncodedChunk> chunks;
  for (size_t i = begin; i < rows.size(); ++i) {
    const bool full = chunks.empty() || chunks.back().num_rows >= kMaxChunkRows ||
                      chunks.back().payload.size() + rows[i].request.size() > kMaxChunkPayloadBytes;
    if (full) {
      chunks.emplace_back();
      chunks.back().first_row = first_row + static_cast<int64_t>(i - begin);
    }
    AppendEntry(rows[i], chunks.back());
  }
  for (EncodedChunk& chunk : chunks) {
    const uint32_t checksum = Crc32c(chunk.index);
    chunk.index.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  }
  return chunks;
}

RowChunk::RowChunk(std::string label, int64_t first_row, int64_t num_rows, std::string index,
                   std::string payload)
    : label_(std::move(label)),
      first_row_(first_row),
      num_rows_(num_rows),
      index_(std::move(index)),
      payload_(std::move(payload)),
      index_intact_(IndexIsIntact(index_, num_rows)) {}

absl::StatusOr<RowView> RowChunk::Row(int64_t row) const {
  CHECK(Contains(row)) << "row " << row << " is not in [" << first_row_ << ", " << end_row() << ")";
  if (!index_intact_) return DamagedRow(row);
  const int64_t i = row - first_row_;
  const IndexEntry entry = EntryAt(index_, i);
  const size_t begin = i == 0 ? 0 : EntryAt(index_, i - 1).payload_end;
  if (begin > entry.payload_end || entry.payload_end > payload_.size()) return DamagedRow(row);
  const absl::string_view request =
      absl::string_view(payload_).substr(begin, entry.payload_end - begin);
  if (Crc32c(request) != entry.checksum) return DamagedRow(row);
  return RowView{request, static_cast<int64_t>(entry.tokens_and_flag >> 1),
                 (entry.tokens_and_flag & 1) != 0};
}

absl::Status RowChunk::DamagedRow(int64_t row) const {
  return absl::DataLossError(absl::StrCat("the stored request of ", label_, " row ", row,
                                          " is damaged: its checksum does not match"));
}

absl::StatusOr<std::vector<bool>> RefusedFlags(absl::string_view index, int64_t num_rows) {
  if (!IndexIsIntact(index, num_rows)) return absl::DataLossError("damaged row index");
  std::vector<bool> refused(static_cast<size_t>(num_rows));
  for (int64_t i = 0; i < num_rows; ++i) {
    refused[static_cast<size_t>(i)] = (EntryAt(index, i).tokens_and_flag & 1) != 0;
  }
  return refused;
}

}  // namespace moelight
