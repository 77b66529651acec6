// moelightd doctor: whether this machine and this configuration fit together, before the daemon is
// started.
#ifndef MOELIGHT_SERVER_DOCTOR_H_
#define MOELIGHT_SERVER_DOCTOR_H_

#include <functional>
#include <string>
#include <vector>

#include "server/command_line.h"
#include "server/doctor_checks.h"
#include "server/serve.h"

namespace moelight {

// What only the engine can tell; the composition root brings it.
struct DoctorEngine {
  std::function<absl::StatusOr<DeviceInfo>(const EngineOptions&)> describe_device;
  std::function<ModelFiles(const EngineOptions&)> inspect_model;
};

// The real machine, seen with the eyes of `config`. Takes a second or two: the tokenizer is read
// and a few writes go to the disk of store.path. Makes nothing that stays.
Machine LookAtMachine(const Config& config, const DoctorEngine& engine);

struct DoctorReport {
  Verdict verdict = Verdict::kOk;  // the worst
  std::string text;                // lines for people
  std::string json;                // the same for programs
};
DoctorReport Examine(const Config& config, const Machine& machine);

// Prints what was found. Returns the exit code: 0 if nothing fails, 1 if something does, 2 for
// wrong arguments or configuration.
int RunDoctor(const CommandLine& line, const Environment& environment, const DoctorEngine& engine);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_DOCTOR_H_
