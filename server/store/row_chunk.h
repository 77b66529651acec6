// Row chunks: how the rows of an append lie on disk.
//
// Many rows share one database record, which makes appending several times cheaper than a record
// per row. A chunk is an index of fixed-size entries and a payload of concatenated serialized
// BatchRequests. Every row has a checksum of its own and the index has one, so that damage is
// pinned to a row and its neighbours stay readable.
//
// Threads: none of these is thread-safe. Owns: copies of the bytes.
#ifndef MOELIGHT_SERVER_STORE_ROW_CHUNK_H_
#define MOELIGHT_SERVER_STORE_ROW_CHUNK_H_

#include <cstdint>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

namespace moelight {

// A chunk is closed at whichever comes first. Reading one row reads its whole chunk.
inline constexpr int64_t kMaxChunkPayloadBytes = 64 << 10;
inline constexpr int64_t kMaxChunkRows = 256;

// One row as it is written.
struct EncodedRow {
  std::string request;  // serialized BatchRequest, deterministic
  int64_t prompt_tokens = 0;
  std::string refusal;        // serialized BatchResult of a row that will not run; empty: it runs
  int64_t output_tokens = 0;  // estimated; not in the chunk, only summed up
};

struct EncodedChunk {
  int64_t first_row = 0;
  int64_t num_rows = 0;
  int64_t num_refused = 0;
  std::string index;
  std::string payload;
};

// Cuts rows[begin, end) into chunks; the first of them is row `first_row` of its job.
std::vector<EncodedChunk> EncodeChunks(const std::vector<EncodedRow>& rows, size_t begin,
                                       int64_t first_row);

// A row as it was read. Views live as long as the chunk.
struct RowView {
  absl::string_view request;
  int64_t prompt_tokens = 0;
  bool refused = false;
};

// A chunk read back.
class RowChunk {
 public:
  RowChunk() = default;
  // `label` names the job in errors.
  RowChunk(std::string label, int64_t first_row, int64_t num_rows, std::string index,
           std::string payload);

  int64_t first_row() const { return first_row_; }
  int64_t end_row() const { return first_row_ + num_rows_; }
  bool Contains(int64_t row) const { return row >= first_row_ && row < end_row(); }
  // DataLoss naming job and row if the stored bytes are not those that were written.
  // REQUIRES: Contains(row).
  absl::StatusOr<RowView> Row(int64_t row) const;

 private:
  absl::Status DamagedRow(int64_t row) const;

  std::string label_;
  int64_t first_row_ = 0;
  int64_t num_rows_ = 0;
  std::string index_;
  std::string payload_;
  bool index_intact_ = false;
};

// Whether each row of an index is refused, without the payload; DataLoss if the index is damaged.
absl::StatusOr<std::vector<bool>> RefusedFlags(absl::string_view index, int64_t num_rows);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_ROW_CHUNK_H_
