#include "server/store/paged_reads.h"

#include <algorithm>
#include <string>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "server/store/crc32c.h"
#include "server/store/schema.h"

namespace moelight {
namespace {

// What one NextPending may bring into memory.
constexpr int64_t kMaxPendingBytes = 8 << 20;

absl::Status Damaged(const JobSnapshot& job, int64_t first_row) {
  return absl::DataLossError(absl::StrCat("the stored result of ", job.job.job_id(), " row ",
                                          first_row, " is damaged: its checksum does not match"));
}

// Reads the record at the statement's row: columns key, first_row, num_rows, is_template, checksum,
// payload.
struct StoredResult {
  int64_t sequence = 0;
  int64_t first_row = 0;
  int64_t num_rows = 0;
  bool is_template = false;
  v1::BatchResult result;
};
absl::StatusOr<StoredResult> ParseResult(const JobSnapshot& job, const Statement& statement) {
  StoredResult stored;
  stored.sequence = KeyIndex(statement.Int(0));
  stored.first_row = statement.Int(1);
  stored.num_rows = statement.Int(2);
  stored.is_template = statement.Int(3) != 0;
  const absl::string_view payload = statement.Bytes(5);
  if (Crc32c(payload) != statement.Int(4) ||
      !stored.result.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    return Damaged(job, stored.first_row);
  }
  return stored;
}

// A record that stands for many rows, as the record of one of them.
absl::StatusOr<v1::BatchResult> FillTemplate(const JobSnapshot& job, const StoredResult& stored,
                                             int64_t row, ReadConnection& connection) {
  v1::BatchResult result = stored.result;
  result.set_row(row);
  const absl::StatusOr<RowView> view = connection.rows->Read(job.serial, job.job.job_id(), row);
  if (!view.ok()) {
    RETURN_IF_ERROR(connection.database->failure());
    return result;  // a damaged request has lost its custom_id; the row's end is known all the same
  }
  v1::BatchRequest request;
  if (request.ParseFromArray(view->request.data(), static_cast<int>(view->request.size()))) {
    result.set_custom_id(request.custom_id());
  }
  return result;
}

}  // namespace

absl::StatusOr<ResultsPage> ReadResultsPage(const JobSnapshot& job, int64_t cursor,
                                            int64_t max_bytes, ReadConnection& connection) {
  const int64_t total = job.num_results();
  if (cursor < 0 || cursor > total) {
    return absl::OutOfRangeError(absl::StrCat("cursor: is ", cursor, ", but ", job.job.job_id(),
                                              " has ", total, " results"));
  }
  ResultsPage page;
  page.next_cursor = cursor;
  // The record that holds the cursor may begin before it.
  ASSIGN_OR_RETURN(Statement read,
                   connection.database->Prepare(
                       "SELECT key, first_row, num_rows, is_template, checksum, payload"
                       " FROM results WHERE key >= (SELECT max(key) FROM results WHERE key <= ?1)"
                       " AND key < ?2 ORDER BY key"));
  read.Start(StoreKey(job.serial, cursor), StoreKey(job.serial, total));
  int64_t bytes = 0;
  while (page.next_cursor < total && (bytes < max_bytes || page.results.empty())) {
    ASSIGN_OR_RETURN(const bool more, read.Next());
    // Only a job that was deleted under way lacks records.
    if (!more || KeySerial(read.Int(0)) != job.serial) {
      return absl::NotFoundError(
          absl::StrCat(job.job.job_id(), " has no stored result ", page.next_cursor));
    }
    ASSIGN_OR_RETURN(const StoredResult stored, ParseResult(job, read));
    while (page.next_cursor < std::min(total, stored.sequence + stored.num_rows) &&
           (bytes < max_bytes || page.results.empty())) {
      const int64_t row = stored.first_row + page.next_cursor - stored.sequence;
      if (stored.is_template) {
        ASSIGN_OR_RETURN(v1::BatchResult filled, FillTemplate(job, stored, row, connection));
        page.results.push_back(std::move(filled));
      } else {
        page.results.push_back(stored.result);
      }
      bytes += static_cast<int64_t>(page.results.back().ByteSizeLong());
      if (bytes > max_bytes && page.results.size() > 1) {
        page.results.pop_back();
        break;
      }
      ++page.next_cursor;
    }
  }
  page.job_ended = job.ended && page.next_cursor == total;
  return page;
}

namespace {

struct Collector {
  ReadConnection& connection;
  std::vector<PendingRow> rows;
  int64_t bytes = 0;

  bool full() const { return bytes >= kMaxPendingBytes; }
  // Adds the row unless it was refused; false then.
  absl::StatusOr<bool> Add(const JobSnapshot& job, int64_t row, int32_t crashes) {
    PendingRow pending;
    pending.job_id = job.job.job_id();
    pending.row = row;
    pending.crashes = crashes;
    const absl::StatusOr<RowView> view = connection.rows->Read(job.serial, pending.job_id, row);
    RETURN_IF_ERROR(connection.database->failure());
    if (!view.ok()) {
      pending.status = view.status();
    } else if (view->refused) {
      return false;
    } else {
      pending.estimated_prompt_tokens = view->prompt_tokens;
      bytes += static_cast<int64_t>(view->request.size());
      if (!pending.request.ParseFromArray(view->request.data(),
                                          static_cast<int>(view->request.size()))) {
        pending.status = absl::DataLossError(absl::StrCat("the stored request of ", pending.job_id,
                                                          " row ", row, " does not parse"));
      }
    }
    rows.push_back(std::move(pending));
    return true;
  }
};

absl::Status AddRequeued(const PendingPlan::Rows& rows, Collector& out) {
  for (int64_t i = 0; i < rows.num_rows && !out.full(); ++i) {
    const RequeuedRow& requeued = rows.job->requeued[i];
    RETURN_IF_ERROR(out.Add(*rows.job, requeued.row, requeued.crashes).status());
  }
  return absl::OkStatus();
}

absl::Status AddWaiting(const PendingPlan::Rows& rows, Collector& out) {
  const JobSnapshot& job = *rows.job;
  int64_t num_left = rows.num_rows;
  for (int64_t row = job.next_row; row < job.job.num_rows() && num_left > 0 && !out.full(); ++row) {
    ASSIGN_OR_RETURN(const bool runs, out.Add(job, row, 0));
    if (runs) --num_left;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<PendingRow>> ReadPendingRows(const PendingPlan& plan,
                                                        ReadConnection& connection) {
  Collector out{connection, {}};
  for (const PendingPlan::Rows& rows : plan.requeued) RETURN_IF_ERROR(AddRequeued(rows, out));
  for (const PendingPlan::Rows& rows : plan.waiting) RETURN_IF_ERROR(AddWaiting(rows, out));
  return std::move(out.rows);
}

}  // namespace moelight
