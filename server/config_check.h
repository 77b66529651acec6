// Settings that are well formed one by one and impossible together or on this machine.
#ifndef MOELIGHT_SERVER_CONFIG_CHECK_H_
#define MOELIGHT_SERVER_CONFIG_CHECK_H_

#include <functional>
#include <string>

#include <absl/strings/string_view.h>

#include "server/config.h"

namespace moelight {

// Calls `report` with the key to change and the reason for each such setting. Looks whether the
// files and folders named exist.
void CheckConfig(const Config& config,
                 const std::function<void(absl::string_view key, std::string reason)>& report);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_CONFIG_CHECK_H_
