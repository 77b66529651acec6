#include "client/line_reader.h"

#include <cstring>

namespace moelight::client {
namespace {

constexpr size_t kBlockBytes = 256 << 10;

}  // namespace

LineReader::LineReader(std::istream& in, size_t max_line_bytes)
    : in_(in), max_line_bytes_(max_line_bytes) {}

LineReader::Outcome LineReader::Next(absl::string_view& line) {
  size_t searched = 0;  // bytes behind begin_ that hold no newline
  while (true) {
    const char* start = buffer_.data() + begin_;
    const size_t size = buffer_.size() - begin_;
    const void* newline = std::memchr(start + searched, '\n', size - searched);
    if (newline != nullptr) {
      line = absl::string_view(start, static_cast<const char*>(newline) - start);
      begin_ += line.size() + 1;
      ++line_number_;
      return line.size() > max_line_bytes_ ? Outcome::kTooLong : Outcome::kLine;
    }
    if (size > max_line_bytes_) return SkipRestOfLine();
    searched = size;
    if (Fill()) continue;
    if (in_.bad()) return Outcome::kFailed;
    if (size == 0) return Outcome::kEnd;
    // The last line may lack its newline.
    line = absl::string_view(buffer_).substr(begin_);
    begin_ = buffer_.size();
    ++line_number_;
    return Outcome::kLine;
  }
}

bool LineReader::Fill() {
  buffer_.erase(0, begin_);
  begin_ = 0;
  const size_t old_size = buffer_.size();
  buffer_.resize(old_size + kBlockBytes);
  in_.read(buffer_.data() + old_size, kBlockBytes);
  buffer_.resize(old_size + in_.gcount());
  return in_.gcount() > 0;
}

LineReader::Outcome LineReader::SkipRestOfLine() {
  ++line_number_;
  while (true) {
    const size_t newline = buffer_.find('\n', begin_);
    if (newline != std::string::npos) {
      begin_ = newline + 1;
      return Outcome::kTooLong;
    }
    begin_ = buffer_.size();
    if (!Fill()) return in_.bad() ? Outcome::kFailed : Outcome::kTooLong;
  }
}

}  // namespace moelight::client
