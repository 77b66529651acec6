#include "server/config_reload.h"

#include <algorithm>

#include "engine/base/check.h"
#include "server/config_keys.h"

namespace moelight {

absl::Span<const absl::string_view> ReloadableKeys() {
  static constexpr absl::string_view kKeys[] = {
      "server.tls.cert",
      "server.tls.key",
      "server.tls.client_ca",
      "server.tenants",
      "server.limits.connections",
      "server.limits.connections_per_peer",
      "server.limits.jobs",
      "server.limits.rows_per_job",
      "server.limits.queued_rows",
      "server.limits.queued_tokens",
      "log.level",
  };
  return kKeys;
}

ConfigReload MergeReload(const Config& current, const Config& fresh) {
  ConfigReload reload;
  reload.config = current;
  for (const ConfigKey& key : ConfigKeys()) {
    const std::string before = FormatConfigValue(key, current);
    const std::string after = FormatConfigValue(key, fresh);
    if (before == after) continue;
    const absl::Span<const absl::string_view> reloadable = ReloadableKeys();
    const bool is_listed =
        std::find(reloadable.begin(), reloadable.end(), key.path) != reloadable.end();
    const bool turns_on_or_off = key.kind == ConfigKind::kPath && (before.empty() || after.empty());
    if (!is_listed || turns_on_or_off) {
      reload.needs_restart.emplace_back(key.path);
      continue;
    }
    const absl::Status status = SetConfigValue(key, after, reload.config);
    CHECK(status.ok()) << key.path << ": " << status.ToString();
    reload.changed.emplace_back(key.path);
  }
  return reload;
}

}  // namespace moelight
