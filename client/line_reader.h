// LineReader: the lines of a stream, with bounded memory however long they are.
//
// Threads: one. Owns: one buffer of at most `max_line_bytes` plus a block. Borrows the stream.
#ifndef MOELIGHT_CLIENT_LINE_READER_H_
#define MOELIGHT_CLIENT_LINE_READER_H_

#include <cstddef>
#include <cstdint>
#include <istream>
#include <string>

#include <absl/strings/string_view.h>

namespace moelight::client {

class LineReader {
 public:
  LineReader(std::istream& in, size_t max_line_bytes);

  enum class Outcome {
    kLine,
    kTooLong,  // the line is skipped whole
    kEnd,
    kFailed,  // the stream could not be read on
  };
  // On kLine, `line` is without its newline and valid until the next call.
  Outcome Next(absl::string_view& line);

  int64_t line_number() const { return line_number_; }  // of the last line, from 1

 private:
  // False at the end of the stream.
  bool Fill();
  Outcome SkipRestOfLine();

  std::istream& in_;
  const size_t max_line_bytes_;
  std::string buffer_;
  size_t begin_ = 0;  // of what is not consumed yet
  int64_t line_number_ = 0;
};

}  // namespace moelight::client

#endif  // MOELIGHT_CLIENT_LINE_READER_H_
