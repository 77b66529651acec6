// ByteSpan: a half-open range of bytes of a string. A plain value; begin <= end.
#ifndef MOELIGHT_ENGINE_TOKENIZER_BYTE_SPAN_H_
#define MOELIGHT_ENGINE_TOKENIZER_BYTE_SPAN_H_

#include <cstddef>

namespace moelight {

struct ByteSpan {
  size_t begin = 0;
  size_t end = 0;

  friend bool operator==(const ByteSpan&, const ByteSpan&) = default;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_BYTE_SPAN_H_
