#include "server/store/row_reader.h"

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "server/store/schema.h"

namespace moelight {

absl::StatusOr<std::unique_ptr<RowReader>> RowReader::Create(Database& database) {
  auto reader = std::make_unique<RowReader>();
  ASSIGN_OR_RETURN(reader->find_,
                   database.Prepare("SELECT key, num_rows, row_index, payload FROM row_chunks"
                                    " WHERE key <= ? ORDER BY key DESC LIMIT 1"));
  return reader;
}

absl::StatusOr<RowView> RowReader::Read(int64_t serial, const std::string& job_id, int64_t row) {
  if (serial != serial_ || !chunk_.Contains(row)) RETURN_IF_ERROR(Load(serial, job_id, row));
  return chunk_.Row(row);
}

absl::Status RowReader::Load(int64_t serial, const std::string& job_id, int64_t row) {
  Forget();
  find_.Start(StoreKey(serial, row));
  ASSIGN_OR_RETURN(const bool found, find_.Next());
  if (found && KeySerial(find_.Int(0)) == serial) {
    chunk_ = RowChunk(job_id, KeyIndex(find_.Int(0)), find_.Int(1), std::string(find_.Bytes(2)),
                      std::string(find_.Bytes(3)));
    if (chunk_.Contains(row)) serial_ = serial;
  }
  find_.Reset();
  if (serial_ == serial) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("the stored request of ", job_id, " row ", row, " is missing"));
}

}  // namespace moelight
