#include "client/batch_file.h"

#include <utility>

#include <absl/hash/hash.h>
#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>

namespace moelight::client {
namespace {

// Large enough that handing one over costs nothing per row, small enough that the first rows leave
// early. Eight of them smooth out the waits for the server's commits.
constexpr size_t kChunkRows = 256;
constexpr int64_t kChunkBytes = 1 << 20;
constexpr size_t kMaxQueuedChunks = 8;

}  // namespace

BatchFile::BatchFile(std::istream& in, BatchFileOptions options)
    : options_(std::move(options)),
      reader_(in, options_.max_line_bytes),
      parser_([this]() { ParseAll(); }) {}

BatchFile::~BatchFile() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
}

absl::StatusOr<std::optional<BatchChunk>> BatchFile::Next() {
  std::optional<BatchChunk> chunk;
  {
    MutexLock lock(&mutex_);
    changed_.Wait(lock, [this]() { return parsed_all_ || !chunks_.empty(); });
    if (chunks_.empty()) {
      if (!failure_.ok()) return failure_;
      return std::nullopt;
    }
    chunk = std::move(chunks_.front());
    chunks_.pop_front();
  }
  changed_.NotifyAll();
  return chunk;
}

void BatchFile::ParseAll() {
  while (true) {
    absl::StatusOr<std::optional<BatchChunk>> chunk = ParseChunk();
    bool done = false;
    {
      MutexLock lock(&mutex_);
      changed_.Wait(lock, [this]() { return stopping_ || chunks_.size() < kMaxQueuedChunks; });
      failure_ = chunk.status();
      parsed_all_ = stopping_ || !chunk.ok() || !chunk->has_value();
      if (!parsed_all_) chunks_.push_back(**std::move(chunk));
      done = parsed_all_;
    }
    changed_.NotifyAll();
    if (done) return;
  }
}

absl::StatusOr<std::optional<BatchChunk>> BatchFile::ParseChunk() {
  BatchChunk chunk;
  int64_t bytes = 0;
  while (chunk.rows.size() + chunk.bad_lines.size() < kChunkRows && bytes < kChunkBytes) {
    absl::string_view line;
    switch (reader_.Next(line)) {
      case LineReader::Outcome::kLine:
        bytes += line.size();
        ParseLine(line, chunk);
        break;
      case LineReader::Outcome::kTooLong:
        AddBadLine("",
                   {"line_too_long",
                    absl::StrCat("the line has more than ", options_.max_line_bytes, " bytes")},
                   chunk);
        break;
      case LineReader::Outcome::kFailed:
        return absl::DataLossError(
            absl::StrCat("cannot read the input on after line ", reader_.line_number()));
      case LineReader::Outcome::kEnd:
        if (chunk.rows.empty() && chunk.bad_lines.empty()) return std::nullopt;
        return chunk;
    }
  }
  return chunk;
}

void BatchFile::ParseLine(absl::string_view line, BatchChunk& chunk) {
  if (absl::StripAsciiWhitespace(line).empty()) return;
  ParsedLine parsed = ParseBatchLine(line, options_.parse);
  std::string& custom_id = *parsed.request.mutable_custom_id();
  if (parsed.error.has_value()) {
    AddBadLine(std::move(custom_id), *std::move(parsed.error), chunk);
    return;
  }
  const int64_t row_bytes = parsed.request.ByteSizeLong();
  if (row_bytes > options_.max_row_bytes) {
    AddBadLine(std::move(custom_id),
               {"line_too_long",
                absl::StrCat("the row has ", row_bytes, " bytes, limit ", options_.max_row_bytes,
                             " (", options_.max_row_limit_name, ")")},
               chunk);
    return;
  }
  if (!seen_custom_ids_.insert(absl::Hash<std::string>()(custom_id)).second) {
    LineError error = {"duplicate_custom_id",
                       absl::StrCat("custom_id \"", custom_id, "\" occurred before")};
    AddBadLine(std::move(custom_id), std::move(error), chunk);
    return;
  }
  chunk.rows.push_back(std::move(parsed));
}

void BatchFile::AddBadLine(std::string custom_id, LineError error, BatchChunk& chunk) {
  chunk.bad_lines.push_back({reader_.line_number(), std::move(custom_id), std::move(error)});
}

}  // namespace moelight::client
