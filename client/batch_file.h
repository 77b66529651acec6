// BatchFile: reads OpenAI Batch lines on a thread of its own, so that parsing overlaps with
// sending.
//
// Memory: a few chunks of rows, and about 16 bytes per row for the check of custom_ids, whatever
// the size of the file.
//
// Threads: Next() from one thread; the parser thread is internal and ends with the object.
// Owns: the chunks. Borrows the stream, which must outlive it.
// Errors: bad lines are part of the chunks; Next() fails only if the stream cannot be read.
#ifndef MOELIGHT_CLIENT_BATCH_FILE_H_
#define MOELIGHT_CLIENT_BATCH_FILE_H_

#include <cstdint>
#include <deque>
#include <istream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <absl/container/flat_hash_set.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "client/line_reader.h"
#include "client/openai_batch.h"
#include "engine/base/mutex.h"

namespace moelight::client {

struct BatchFileOptions {
  ParseOptions parse;
  // A line longer than this is refused unread. JSON escapes can blow a row up sixfold.
  size_t max_line_bytes = 16 << 20;
  // A row larger than this, as the server stores it, is refused; `max_row_limit_name` names the
  // server's limit in the message.
  int64_t max_row_bytes = 1 << 20;
  std::string max_row_limit_name = "server.limits.row_bytes";
};

struct BadLine {
  int64_t line_number = 0;
  std::string custom_id;  // empty if it could not be read
  LineError error;
};

struct BatchChunk {
  std::vector<ParsedLine> rows;
  std::vector<BadLine> bad_lines;
};

class BatchFile {
 public:
  BatchFile(std::istream& in, BatchFileOptions options);
  // Stops the parser after the line it is at.
  ~BatchFile();
  BatchFile(const BatchFile&) = delete;
  BatchFile& operator=(const BatchFile&) = delete;

  // Blocks for the next chunk, which is not empty; nullopt at the end of the file.
  absl::StatusOr<std::optional<BatchChunk>> Next();

 private:
  void ParseAll();  // the parser thread
  absl::StatusOr<std::optional<BatchChunk>> ParseChunk();
  void ParseLine(absl::string_view line, BatchChunk& chunk);
  void AddBadLine(std::string custom_id, LineError error, BatchChunk& chunk);

  // Used by the parser thread only.
  const BatchFileOptions options_;
  LineReader reader_;
  // Hashes instead of the ids themselves. That two of ten million different ids share one of 2^64
  // values has a chance of 3 in a million.
  absl::flat_hash_set<uint64_t> seen_custom_ids_;

  Mutex mutex_;
  CondVar changed_;
  std::deque<BatchChunk> chunks_;  // guarded by mutex_
  bool parsed_all_ = false;        // guarded by mutex_
  bool stopping_ = false;          // guarded by mutex_
  absl::Status failure_;           // guarded by mutex_; set before parsed_all_
  std::jthread parser_;            // last: it uses all of the above
};

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_BATCH_FILE_H_
