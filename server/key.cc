#include "server/key.h"

#include <iostream>

#include "server/command_line.h"
#include "server/tenants.h"

namespace moelight {

int RunKey(const std::vector<std::string>& args) {
  if (!args.empty()) {
    std::cerr << "moelightd: key takes no arguments\n";
    return kExitUsage;
  }
  const absl::StatusOr<NewKey> made = MakeKey();
  if (!made.ok()) {
    std::cerr << "moelightd: " << made.status().message() << "\n";
    return kExitFailure;
  }
  std::cerr << "The key, for its owner; it is shown only here. Its hash, for the file that "
               "server.tenants names:\n";
  std::cout << "key: " << made->key << "\n"
            << "hash: " << made->hash << "\n";
  return 0;
}

}  // namespace moelight
