// Meter: what one rendering may still spend. The sandbox of the template language.
//
// Every loop and every allocation whose size a template can choose is charged here first, so that
// a hostile template ends with ResourceExhausted after a bounded time and memory, whatever it does.
// Threads: none; one Meter per rendering. Errors: ResourceExhausted naming the limit.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_METER_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_METER_H_

#include <cstddef>
#include <cstdint>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

namespace moelight::jinja {

// Containers nested deeper than this are refused: what walks them does so recursively.
inline constexpr int kMaxValueDepth = 128;

class Meter {
 public:
  // `max_value_bytes` bounds one string or list, and the output.
  Meter(int64_t max_steps, int64_t max_value_bytes)
      : max_steps_(max_steps),
        max_value_bytes_(max_value_bytes),
        max_total_bytes_(kTotalPerValue * max_value_bytes) {}

  absl::Status Step(int64_t count = 1) {
    steps_ += count;
    if (steps_ <= max_steps_) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        absl::StrCat("the template needs more than the limit of ", max_steps_, " steps"));
  }

  // Reading `bytes` of a string, which at memory speed costs about a step per kBytesPerStep.
  absl::Status Scan(size_t bytes) { return Step(static_cast<int64_t>(bytes / kBytesPerStep)); }

  // The same for work on each character of `bytes` of text: decoding, classifying, quoting.
  absl::Status ScanChars(size_t bytes) {
    return Step(static_cast<int64_t>(bytes / kBytesPerStepByChar));
  }

  // Making a value of `bytes`. What was freed is not given back: the sum bounds the time too.
  absl::Status Allocate(uint64_t bytes) {
    if (bytes > static_cast<uint64_t>(max_value_bytes_)) return ValueTooLarge();
    total_bytes_ += static_cast<int64_t>(bytes);
    if (total_bytes_ <= max_total_bytes_) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrCat("the template makes more than the limit of ",
                                                     max_total_bytes_, " bytes of values"));
  }

  absl::Status ValueTooLarge() const {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the template makes a value or an output over the limit of ", max_value_bytes_, " bytes"));
  }

  int64_t max_value_bytes() const { return max_value_bytes_; }

 private:
  // A step is meant to be about 100 ns.
  static constexpr int64_t kBytesPerStep = 256;
  static constexpr int64_t kBytesPerStepByChar = 16;
  // A template builds each prompt a few times over: message, block, output. 16 leaves room.
  static constexpr int64_t kTotalPerValue = 16;

  const int64_t max_steps_;
  const int64_t max_value_bytes_;
  const int64_t max_total_bytes_;
  int64_t steps_ = 0;
  int64_t total_bytes_ = 0;
};

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_METER_H_
