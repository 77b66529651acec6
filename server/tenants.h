// Tenants: who may call, by API key, and how much each may hold.
//
// The file that server.tenants names:
//
//   tenants:
//     - name: alice                 # the client of her jobs: its share is in server.client_weights
//       keys: [sha256:9f86d0...]    # of keys as `moelightd key` makes them; several while one is
//       replaced admin: false                # may call AdminService and sees everybody's jobs
//       quota: {queued_rows: 1000000, queued_tokens: 500000000, stored_bytes: 2GiB, streams: 16}
//
// Keys are 256 random bits, so their plain SHA-256 tells nothing about them and needs no salt. The
// file holds no key, only hashes.
//
// Threads: immutable once parsed. Errors: InvalidArgument with FILE:LINE, the entry and the reason.
#ifndef MOELIGHT_SERVER_TENANTS_H_
#define MOELIGHT_SERVER_TENANTS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "server/job_store.h"

namespace moelight {

struct Tenant {
  std::string name;
  bool is_admin = false;
  ClientQuota quota;
  int32_t max_streams = 0;  // open at once; 0: as many as connections carry
};

class Tenants {
 public:
  Tenants() = default;
  // `label` stands in front of errors.
  static absl::StatusOr<Tenants> Parse(const std::string& text, const std::string& label);
  static absl::StatusOr<Tenants> Load(const std::string& file);

  // The tenant that `key` belongs to, or null. Takes as long whichever key is right, and whether
  // one is.
  const Tenant* Find(absl::string_view key) const;

  const std::vector<Tenant>& all() const { return tenants_; }
  size_t num_keys() const { return keys_.size(); }

 private:
  using Hash = std::array<unsigned char, 32>;
  struct Key {
    Hash hash;
    size_t tenant;
  };

  std::vector<Tenant> tenants_;
  std::vector<Key> keys_;
};

// A new key and its hash as it stands in the file ("sha256:" and 64 hexadecimal digits).
struct NewKey {
  std::string key;
  std::string hash;
};
absl::StatusOr<NewKey> MakeKey();

}  // namespace moelight

#endif  // MOELIGHT_SERVER_TENANTS_H_
