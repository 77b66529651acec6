// What of a new configuration a running daemon takes.
//
// Pure functions. A key that is not in the list, and a file that is named for the first time or no
// longer, needs a restart.
#ifndef MOELIGHT_SERVER_CONFIG_RELOAD_H_
#define MOELIGHT_SERVER_CONFIG_RELOAD_H_

#include <string>
#include <vector>

#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include "server/config.h"

namespace moelight {

// Paths of the keys that can change while the daemon runs. Of files their content counts too.
absl::Span<const absl::string_view> ReloadableKeys();

struct ConfigReload {
  Config config;                           // the current one with what can change
  std::vector<std::string> changed;        // keys taken
  std::vector<std::string> needs_restart;  // keys that differ and were not taken
};
ConfigReload MergeReload(const Config& current, const Config& fresh);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_CONFIG_RELOAD_H_
