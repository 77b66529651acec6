#include "server/tenants.h"

#include <algorithm>
#include <set>
#include <utility>

#include <absl/strings/ascii.h>
#include <absl/strings/escaping.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <yaml-cpp/yaml.h>

#include "engine/base/status_macros.h"
#include "server/client_weights.h"
#include "server/config_values.h"
#include "server/text_file.h"

namespace moelight {
namespace {

constexpr absl::string_view kHashPrefix = "sha256:";
constexpr absl::string_view kKeyPrefix = "ml_";  // so that scanners for leaked secrets can find it
constexpr size_t kKeyBytes = 32;
constexpr size_t kMaxKeyLength = 256;  // what is longer is not hashed
constexpr size_t kMaxTenants = 10'000;
constexpr size_t kMaxKeysPerTenant = 16;
constexpr int64_t kMaxCount = 1'000'000'000'000;
constexpr int64_t kMaxBytes = 1LL << 50;
constexpr int64_t kMaxStreams = 1'000'000;

static_assert(kKeyBytes == SHA256_DIGEST_LENGTH);

// Reads one file; errors name the line of the node that is wrong.
class Reader {
 public:
  explicit Reader(const std::string& label) : label_(label) {}

  absl::Status Error(const YAML::Node& node, absl::string_view reason) const {
    return absl::InvalidArgumentError(
        absl::StrCat(label_, ":", node.Mark().line + 1, ": ", reason));
  }

  absl::Status CheckKeys(const YAML::Node& map, const std::set<std::string>& known,
                         absl::string_view what) const {
    if (!map.IsMap()) return Error(map, absl::StrCat(what, " is not a mapping"));
    std::set<std::string> seen;
    for (const auto& entry : map) {
      const std::string key = entry.first.Scalar();
      if (!known.contains(key)) {
        return Error(entry.first, absl::StrCat(what, ": unknown key \"", key, "\""));
      }
      if (!seen.insert(key).second) {
        return Error(entry.first, absl::StrCat(what, ": \"", key, "\" stands there twice"));
      }
    }
    return absl::OkStatus();
  }

  // A number of `map` as `parse` reads it, at most `max`; 0 if it is not there.
  absl::StatusOr<int64_t> Number(const YAML::Node& map, const char* key,
                                 absl::StatusOr<int64_t> (*parse)(absl::string_view),
                                 int64_t max) const {
    const YAML::Node node = map[key];
    if (!node) return 0;
    if (!node.IsScalar()) return Error(node, absl::StrCat("quota.", key, ": is not a number"));
    const absl::StatusOr<int64_t> value = parse(node.Scalar());
    if (!value.ok()) {
      return Error(node, absl::StrCat("quota.", key, ": ", value.status().message()));
    }
    if (*value < 0 || *value > max) {
      return Error(node, absl::StrCat("quota.", key, ": ", *value, " is out of range: 0 to ", max));
    }
    return value;
  }

 private:
  const std::string label_;
};

absl::Status ReadQuota(const Reader& reader, const YAML::Node& node, Tenant& tenant) {
  RETURN_IF_ERROR(
      reader.CheckKeys(node, {"queued_rows", "queued_tokens", "stored_bytes", "streams"}, "quota"));
  ASSIGN_OR_RETURN(tenant.quota.queued_rows,
                   reader.Number(node, "queued_rows", ParseInteger, kMaxCount));
  ASSIGN_OR_RETURN(tenant.quota.queued_tokens,
                   reader.Number(node, "queued_tokens", ParseInteger, kMaxCount));
  ASSIGN_OR_RETURN(tenant.quota.stored_bytes,
                   reader.Number(node, "stored_bytes", ParseSize, kMaxBytes));
  ASSIGN_OR_RETURN(const int64_t streams,
                   reader.Number(node, "streams", ParseInteger, kMaxStreams));
  tenant.max_streams = static_cast<int32_t>(streams);
  return absl::OkStatus();
}

absl::StatusOr<Tenant> ReadTenant(const Reader& reader, const YAML::Node& node) {
  RETURN_IF_ERROR(reader.CheckKeys(node, {"name", "keys", "admin", "quota"}, "tenant"));
  Tenant tenant;
  const YAML::Node name = node["name"];
  if (!name || !name.IsScalar() || name.Scalar().empty() ||
      name.Scalar().size() > kMaxClientBytes) {
    return reader.Error(name ? name : node,
                        absl::StrCat("name: must have 1 to ", kMaxClientBytes, " bytes"));
  }
  tenant.name = name.Scalar();
  if (const YAML::Node admin = node["admin"]; admin) {
    const bool is_bool =
        admin.IsScalar() && (admin.Scalar() == "true" || admin.Scalar() == "false");
    if (!is_bool) return reader.Error(admin, "admin: must be true or false");
    tenant.is_admin = admin.Scalar() == "true";
  }
  if (const YAML::Node quota = node["quota"]; quota) {
    RETURN_IF_ERROR(ReadQuota(reader, quota, tenant));
  }
  return tenant;
}

}  // namespace

absl::StatusOr<Tenants> Tenants::Parse(const std::string& text, const std::string& label) {
  const Reader reader(label);
  YAML::Node root;
  try {
    root = YAML::Load(text);
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(label, ":", error.mark.line + 1, ": ", error.msg));
  }
  RETURN_IF_ERROR(reader.CheckKeys(root, {"tenants"}, "the file"));
  const YAML::Node list = root["tenants"];
  if (!list || !list.IsSequence() || list.size() == 0 || list.size() > kMaxTenants) {
    return reader.Error(list ? list : root,
                        absl::StrCat("tenants: must be a list of 1 to ", kMaxTenants));
  }
  Tenants tenants;
  std::set<std::string> names;
  std::set<Hash> hashes;
  for (const YAML::Node& node : list) {
    ASSIGN_OR_RETURN(Tenant tenant, ReadTenant(reader, node));
    if (!names.insert(tenant.name).second) {
      return reader.Error(node, absl::StrCat("name: \"", tenant.name, "\" stands there twice"));
    }
    const YAML::Node keys = node["keys"];
    if (!keys || !keys.IsSequence() || keys.size() > kMaxKeysPerTenant) {
      return reader.Error(keys ? keys : node,
                          absl::StrCat("keys: must be a list of 0 to ", kMaxKeysPerTenant));
    }
    for (const YAML::Node& entry : keys) {
      const std::string hex(absl::StripPrefix(entry.Scalar(), kHashPrefix));
      if (!absl::StartsWith(entry.Scalar(), kHashPrefix) || hex.size() != 2 * kKeyBytes ||
          !std::all_of(hex.begin(), hex.end(), absl::ascii_isxdigit)) {
        return reader.Error(entry,
                            "keys: must be sha256: and 64 hexadecimal digits, as `moelightd "
                            "key` prints them");
      }
      Key key{{}, tenants.tenants_.size()};
      const std::string bytes = absl::HexStringToBytes(hex);
      std::copy(bytes.begin(), bytes.end(), key.hash.begin());
      if (!hashes.insert(key.hash).second) {
        return reader.Error(entry, "keys: this key stands there twice");
      }
      tenants.keys_.push_back(key);
    }
    tenants.tenants_.push_back(std::move(tenant));
  }
  return tenants;
}

absl::StatusOr<Tenants> Tenants::Load(const std::string& file) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(file));
  return Parse(text, file);
}

const Tenant* Tenants::Find(absl::string_view key) const {
  if (key.empty() || key.size() > kMaxKeyLength) return nullptr;
  Hash hash;
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), hash.data());
  const Tenant* found = nullptr;
  for (const Key& candidate : keys_) {
    if (CRYPTO_memcmp(candidate.hash.data(), hash.data(), hash.size()) == 0) {
      found = &tenants_[candidate.tenant];
    }
  }
  return found;
}

absl::StatusOr<NewKey> MakeKey() {
  std::string bytes(kKeyBytes, '\0');
  if (RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), kKeyBytes) != 1) {
    return absl::InternalError("the system gives no random numbers");
  }
  NewKey made;
  std::string encoded = absl::WebSafeBase64Escape(bytes);
  made.key = absl::StrCat(kKeyPrefix, absl::StripSuffix(encoded, "="));
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(made.key.data()), made.key.size(), hash);
  made.hash = absl::StrCat(kHashPrefix, absl::BytesToHexString(absl::string_view(
                                            reinterpret_cast<const char*>(hash), sizeof(hash))));
  return made;
}

}  // namespace moelight
