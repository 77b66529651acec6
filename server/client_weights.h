// ClientWeights: in what proportion clients share the machine.
//
// Plain values and pure functions. Errors: InvalidArgument that says what is wrong with the text;
// the caller names the key.
#ifndef MOELIGHT_SERVER_CLIENT_WEIGHTS_H_
#define MOELIGHT_SERVER_CLIENT_WEIGHTS_H_

#include <cstdint>
#include <string>

#include <absl/container/flat_hash_map.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

namespace moelight {

inline constexpr size_t kMaxClientBytes = 64;  // of a client's name

class ClientWeights {
 public:
  static constexpr int32_t kMax = 1000;

  ClientWeights() = default;
  // "alice=3, bob=1": names of 1 to 64 bytes, weights of 1 to 1000. Blanks around both are dropped.
  static absl::StatusOr<ClientWeights> Parse(absl::string_view text);

  int32_t of(absl::string_view client) const {
    const auto found = weights_.find(client);
    return found == weights_.end() ? 1 : found->second;
  }

 private:
  absl::flat_hash_map<std::string, int32_t> weights_;
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_CLIENT_WEIGHTS_H_
