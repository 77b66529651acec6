#include "client/result_writer.h"

#include "client/exit_code.h"
#include "engine/base/status_macros.h"

namespace moelight::client {

absl::Status ResultWriter::Write(const v1::ReadBatchResultsResponse& response) {
  for (const v1::BatchResult& result : response.results()) {
    ++num_results_;
    num_failed_ += result.has_error();
    RETURN_IF_ERROR(
        LocalError(file_.WriteLine(formatter_.Format(result, kind_of_row_(result.row())))));
  }
  return LocalError(file_.Flush());
}

}  // namespace moelight::client
