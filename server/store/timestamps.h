// The store's clock: protobuf timestamps at microsecond precision, as they are stored.
//
// protobuf's own TimeUtil::GetCurrentTime() knows whole seconds only.
#ifndef MOELIGHT_SERVER_STORE_TIMESTAMPS_H_
#define MOELIGHT_SERVER_STORE_TIMESTAMPS_H_

#include <cstdint>

#include <absl/time/clock.h>
#include <absl/time/time.h>
#include <google/protobuf/timestamp.pb.h>
#include <google/protobuf/util/time_util.h>

namespace moelight {

inline google::protobuf::Timestamp FromMicros(int64_t micros) {
  return google::protobuf::util::TimeUtil::MicrosecondsToTimestamp(micros);
}
inline int64_t ToMicros(const google::protobuf::Timestamp& time) {
  return google::protobuf::util::TimeUtil::TimestampToMicroseconds(time);
}
inline google::protobuf::Timestamp CurrentTimestamp() {
  return FromMicros(absl::ToUnixMicros(absl::Now()));
}
// Saturates, so any timestamp of a client's is taken.
inline absl::Time ToAbslTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

}  // namespace moelight

#endif  // MOELIGHT_SERVER_STORE_TIMESTAMPS_H_
