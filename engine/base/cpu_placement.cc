#include "engine/base/cpu_placement.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <tuple>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"

namespace moelight {
namespace {

// The file lists the CPUs of a physical core, "3,19" or "6-7", in ascending order. A machine
// without it has no siblings that we could know of.
int FirstSibling(int cpu) {
  std::ifstream file(
      absl::StrCat("/sys/devices/system/cpu/cpu", cpu, "/topology/thread_siblings_list"));
  int first = cpu;
  return file >> first ? first : cpu;
}

}  // namespace

absl::StatusOr<std::vector<AllowedCpu>> AllowedCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) {
    return absl::UnavailableError(absl::StrCat("sched_getaffinity: ", std::strerror(errno)));
  }
  std::vector<AllowedCpu> allowed;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) allowed.push_back({cpu, FirstSibling(cpu)});
  }
  return allowed;
}

std::vector<int> PlaceWorkers(const std::vector<AllowedCpu>& allowed, int num_workers) {
  if (num_workers > static_cast<int>(allowed.size())) return {};
  const bool has_spare = num_workers < static_cast<int>(allowed.size());
  // The first CPU is the last choice if it can be spared; and its sibling, which would share a core
  // with it, comes after those that have their core for themselves.
  struct Choice {
    bool is_spare;
    int rank;  // among the CPUs of its core
    bool beside_spare;
    int cpu;
  };
  std::vector<Choice> choices;
  std::map<int, int> num_of_core;
  for (size_t i = 0; i < allowed.size(); ++i) {
    const bool is_spare = has_spare && i == 0;
    const bool beside_spare = has_spare && allowed[i].core == allowed[0].core;
    const int rank = is_spare ? 0 : num_of_core[allowed[i].core]++;
    choices.push_back({is_spare, rank, beside_spare, allowed[i].cpu});
  }
  std::sort(choices.begin(), choices.end(), [](const Choice& a, const Choice& b) {
    return std::tie(a.is_spare, a.rank, a.beside_spare, a.cpu) <
           std::tie(b.is_spare, b.rank, b.beside_spare, b.cpu);
  });
  std::vector<int> cpus;
  for (int i = 0; i < num_workers; ++i) cpus.push_back(choices[i].cpu);
  return cpus;
}

absl::Status CheckCanPin(int num_workers) {
  ASSIGN_OR_RETURN(const std::vector<AllowedCpu> allowed, AllowedCpus());
  const std::vector<int> cpus = PlaceWorkers(allowed, num_workers);
  if (cpus.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(num_workers, " threads and ", allowed.size(),
                                                      " CPUs: some would have to share"));
  }
  cpu_set_t before, one;
  CPU_ZERO(&before);
  CPU_ZERO(&one);
  CPU_SET(cpus.front(), &one);
  if (sched_getaffinity(0, sizeof(before), &before) != 0 ||
      sched_setaffinity(0, sizeof(one), &one) != 0 ||
      sched_setaffinity(0, sizeof(before), &before) != 0) {
    return absl::UnavailableError(absl::StrCat("sched_setaffinity: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace moelight
