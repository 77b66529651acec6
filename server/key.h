// RunKey: `moelightd key`, a new API key for server.tenants.
#ifndef MOELIGHT_SERVER_KEY_H_
#define MOELIGHT_SERVER_KEY_H_

#include <string>
#include <vector>

namespace moelight {

// Prints the key and the hash that stands for it in the file of tenants. The key is nowhere else.
int RunKey(const std::vector<std::string>& args);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_KEY_H_
