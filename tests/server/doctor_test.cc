// Goal: every check of doctor is seen on its good and on its bad side, on machines made up of
// files; the report names what to do; the real machine can be looked at.
#include "server/doctor.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>

#include "tests/server/temp_folder.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kGiB = int64_t{1} << 30;

// What a case changes of a good machine with a GPU. A file that is empty is not there.
struct Change {
  std::map<std::string, std::string> files = {};
  std::function<void(Config&, Machine&)> apply = [](Config&, Machine&) {};
};

struct CheckCase {
  const char* check;
  const char* title;
  Change change;
  Verdict verdict;
  const char* found;  // part of it
};

std::map<std::string, std::string> GoodFiles() {
  return {
      {"proc/driver/nvidia/version",
       "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\nGCC version: 12\n"},
      {"proc/meminfo", "MemTotal:  134217728 kB\nMemAvailable:  100663296 kB\n"},
      {"proc/self/limits",
       "Limit                     Soft Limit           Hard Limit           Units     \n"
       "Max open files            65536                65536                files     \n"
       "Max locked memory         unlimited            unlimited            bytes     \n"},
      {"proc/self/status", "Name:\tmoelightd\nCapEff:\t0000000000000000\n"},
      {"proc/self/cgroup", "0::/docker/abc\n"},
      {"proc/cpuinfo",
       "processor\t: 0\nmodel name\t: A CPU\n"
       "flags\t\t: fpu avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512_bf16 avx512_vnni\n"},
      {"sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"},
      {"sys/devices/system/node/node0/cpulist", "0-15\n"},
      {"sys/fs/cgroup/docker/abc/memory.max", "max\n"},
      {"sys/fs/cgroup/docker/abc/cpu.max", "max 100000\n"},
  };
}

Machine GoodMachine(const std::filesystem::path& root) {
  Machine machine;
  machine.root = root;
  machine.gpu = DeviceInfo{"cuda (NVIDIA H200, sm_90)", true, 140 * kGiB};
  machine.model.model.name = "mixtral";
  machine.model.model.architecture = "MixtralForCausalLM";
  machine.model.num_tensors = 995;
  machine.model.weight_bytes = 87 * kGiB;
  machine.num_cpus = 16;
  machine.store_folder = "/data";
  machine.store_free_bytes = 500 * kGiB;
  machine.store_fsync_ms = 0.5;
  machine.tls_expires_in = absl::InfiniteDuration();
  return machine;
}

Config GoodConfig() {
  Config config;
  config.engine.host_memory_bytes = 64 * kGiB;
  config.engine.gpu_memory_bytes = 16 * kGiB;
  return config;
}

void WriteTree(const std::filesystem::path& root, const std::map<std::string, std::string>& files) {
  for (const auto& [name, text] : files) {
    if (text.empty()) continue;
    std::filesystem::create_directories((root / name).parent_path());
    std::ofstream(root / name, std::ios::binary) << text;
  }
}

constexpr char kSmallLimits[] =
    "Max open files            1024                 4096                 files     \n"
    "Max locked memory         8388608              8388608              bytes     \n";

const absl::Status kNotBuilt = absl::InvalidArgumentError("device \"cuda\" is unknown");
const absl::Status kNoGpu = absl::FailedPreconditionError("cuda: no device");

void Device(Config& config, const std::string& device) { config.engine.device = device; }

// NOLINTBEGIN: a table of lambdas reads best with its types left out.
const std::vector<CheckCase>& Cases() {
  using V = Verdict;
  static const auto* const cases = new std::vector<CheckCase>{
      {"driver", "Loaded", {}, V::kOk, "580.65.06"},
      {"driver",
       "Old",
       {{{"proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX  535.104.05  Sat\n"}}},
       V::kWarn,
       "535.104.05"},
      {"driver", "Absent", {{{"proc/driver/nvidia/version", ""}}}, V::kWarn, "no NVIDIA driver"},
      {"driver",
       "AbsentButWanted",
       {{{"proc/driver/nvidia/version", ""}},
        [](Config& config, Machine&) { Device(config, "cuda"); }},
       V::kFail,
       "no NVIDIA driver"},
      {"driver",
       "NotWanted",
       {{{"proc/driver/nvidia/version", ""}},
        [](Config& config, Machine&) { Device(config, "cpu"); }},
       V::kOk,
       "engine.device is cpu"},
      {"gpu", "Works", {}, V::kOk, "NVIDIA H200, sm_90"},
      {"gpu",
       "NotBuilt",
       {{}, [](Config&, Machine& machine) { machine.gpu = kNotBuilt; }},
       V::kWarn,
       "no GPU backend built"},
      {"gpu",
       "NotBuiltAndNoDriver",
       {{{"proc/driver/nvidia/version", ""}},
        [](Config&, Machine& machine) { machine.gpu = kNotBuilt; }},
       V::kOk,
       "the CPU computes"},
      {"gpu",
       "UnusableButWanted",
       {{},
        [](Config& config, Machine& machine) {
          Device(config, "cuda");
          machine.gpu = kNoGpu;
        }},
       V::kFail,
       "cuda: no device"},
      {"gpu memory", "Enough", {}, V::kOk, "140.0 GiB free"},
      {"gpu memory",
       "Little",
       {{},
        [](Config& config, Machine& machine) {
          config.engine.gpu_memory_bytes = 0;
          machine.gpu->free_bytes = kGiB;
        }},
       V::kWarn,
       "1.0 GiB free"},
      {"gpu memory",
       "LessThanConfigured",
       {{}, [](Config&, Machine& machine) { machine.gpu->free_bytes = 15 * kGiB; }},
       V::kFail,
       "engine.gpu_memory wants 16GiB"},
      {"host memory", "Enough", {}, V::kOk, "96.0 GiB free"},
      {"host memory", "Unknown", {{{"proc/meminfo", ""}}}, V::kWarn, "does not tell"},
      {"host memory",
       "LessThanConfigured",
       {{}, [](Config& config, Machine&) { config.engine.host_memory_bytes = 97 * kGiB; }},
       V::kFail,
       "97.0 GiB"},
      {"memlock", "Unlimited", {}, V::kOk, "no limit"},
      {"memlock",
       "Capability",
       {{{"proc/self/limits", kSmallLimits}, {"proc/self/status", "CapEff:\t0000000000004000\n"}}},
       V::kOk,
       "CAP_IPC_LOCK"},
      {"memlock",
       "Small",
       {{{"proc/self/limits", kSmallLimits}}},
       V::kWarn,
       "8MiB may be locked, the engine pins up to 64.0 GiB"},
      {"memlock",
       "SmallWithoutGpu",
       {{{"proc/self/limits", kSmallLimits}},
        [](Config&, Machine& machine) { machine.gpu = kNotBuilt; }},
       V::kOk,
       "not needed"},
      {"huge pages", "Madvise", {}, V::kOk, "[madvise]"},
      {"huge pages",
       "Never",
       {{{"sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"}}},
       V::kWarn,
       "no transparent huge pages"},
      {"numa", "One", {}, V::kOk, "one node"},
      {"numa",
       "Two",
       {{{"sys/devices/system/node/node1/cpulist", "16-31\n"}}},
       V::kWarn,
       "2 nodes"},
      {"cpu", "Avx512Bf16", {}, V::kOk, "A CPU, 16 CPUs: avx2, avx512, avx512_bf16"},
      {"cpu",
       "Old",
       {{{"proc/cpuinfo", "model name\t: Old\nflags\t: fpu sse avx\n"}}},
       V::kFail,
       "no AVX2"},
      {"cpu",
       "LacksWhatIsConfigured",
       {{{"proc/cpuinfo", "flags\t: avx2 fma f16c avx512f\n"}},
        [](Config& config, Machine&) { config.engine.cpu_isa = "avx512"; }},
       V::kFail,
       "engine.cpu_isa wants avx512"},
      {"cgroup memory", "Unlimited", {}, V::kOk, "no limit"},
      {"cgroup memory",
       "Enough",
       {{{"sys/fs/cgroup/docker/abc/memory.max", "103079215104\n"}}},
       V::kOk,
       "at most 96.0 GiB"},
      {"cgroup memory",
       "SmallFurtherOut",
       {{{"sys/fs/cgroup/docker/memory.max", "34359738368\n"}}},
       V::kFail,
       "at most 32.0 GiB, engine.host_memory is 64GiB"},
      {"cgroup memory",
       "SmallInAContainer",
       {{{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/memory.max", "34359738368\n"}}},
       V::kFail,
       "at most 32.0 GiB"},
      {"cgroup cpu", "Unlimited", {}, V::kOk, "no limit"},
      {"cgroup cpu",
       "Enough",
       {{{"sys/fs/cgroup/docker/abc/cpu.max", "1600000 100000\n"}}},
       V::kOk,
       "16.0 CPUs of time, 15 compute threads"},
      {"cgroup cpu",
       "Few",
       {{{"sys/fs/cgroup/docker/abc/cpu.max", "250000 100000\n"}}},
       V::kWarn,
       "2.5 CPUs of time"},
      {"open files", "Enough", {}, V::kOk, "65536 may be open, server.limits.connections: 1000"},
      {"open files",
       "SoftLimitIsRaised",
       {{{"proc/self/limits", "Max open files     64    8192   files\n"}}},
       V::kOk,
       "8192 may be open"},
      {"open files",
       "Few",
       {{{"proc/self/limits", kSmallLimits}}},
       V::kFail,
       "4096 may be open, server.limits.connections: 1000 need 4256"},
      {"open files", "Unknown", {{{"proc/self/limits", ""}}}, V::kWarn, "does not tell"},
      {"model", "Good", {}, V::kOk, "MixtralForCausalLM"},
      {"model",
       "Unsupported",
       {{},
        [](Config&, Machine& machine) {
          machine.model.config = absl::UnimplementedError("architecture X is not supported");
        }},
       V::kFail,
       "architecture X"},
      {"weights", "Good", {}, V::kOk, "995 tensors, 87.0 GiB"},
      {"weights",
       "Dummy",
       {{}, [](Config& config, Machine&) { config.engine.load_format = "dummy"; }},
       V::kWarn,
       "random weights"},
      {"weights",
       "Truncated",
       {{},
        [](Config&, Machine& machine) {
          machine.model.weights = absl::DataLossError("model-00001.safetensors: too short");
        }},
       V::kFail,
       "too short"},
      {"tokenizer", "Good", {}, V::kOk, "tokenizer.json"},
      {"tokenizer",
       "Absent",
       {{},
        [](Config&, Machine& machine) { machine.model.tokenizer = absl::NotFoundError("none"); }},
       V::kWarn,
       "none"},
      {"tokenizer",
       "Broken",
       {{},
        [](Config&, Machine& machine) {
          machine.model.tokenizer = absl::InvalidArgumentError("tokenizer.json: not JSON");
        }},
       V::kFail,
       "not JSON"},
      {"chat template", "Good", {}, V::kOk, "can be rendered"},
      {"chat template",
       "Absent",
       {{},
        [](Config&, Machine& machine) {
          machine.model.chat_template = absl::NotFoundError("none");
        }},
       V::kWarn,
       "no chat template"},
      {"chat template",
       "Broken",
       {{},
        [](Config&, Machine& machine) {
          machine.model.chat_template = absl::InvalidArgumentError("line 3: no endfor");
        }},
       V::kFail,
       "no endfor"},
      {"listen", "Free", {}, V::kOk, "127.0.0.1:50051 can be taken"},
      {"listen",
       "Taken",
       {{}, [](Config&, Machine& machine) { machine.listen = absl::UnavailableError("taken"); }},
       V::kFail,
       "127.0.0.1:50051: taken"},
      {"admin listen", "Free", {}, V::kOk, "127.0.0.1:50052 can be taken"},
      {"admin listen",
       "Taken",
       {{},
        [](Config&, Machine& machine) { machine.admin_listen = absl::UnavailableError("taken"); }},
       V::kFail,
       "127.0.0.1:50052: taken"},
      {"metrics listen", "Free", {}, V::kOk, "127.0.0.1:9464 can be taken"},
      {"metrics listen",
       "None",
       {{}, [](Config& config, Machine&) { config.metrics_listen = ""; }},
       V::kOk,
       "no metrics"},
      {"metrics listen",
       "Taken",
       {{},
        [](Config&, Machine& machine) {
          machine.metrics_listen = absl::UnavailableError("taken");
        }},
       V::kFail,
       "127.0.0.1:9464: taken"},
      {"tls", "None", {}, V::kOk, "no TLS"},
      {"tls",
       "Good",
       {{},
        [](Config& config, Machine& machine) {
          config.tls.cert = "c.pem";
          machine.tls_expires_in = absl::Hours(24 * 90);
        }},
       V::kOk,
       "expires in 90 days"},
      {"tls",
       "Soon",
       {{},
        [](Config& config, Machine& machine) {
          config.tls.cert = "c.pem";
          machine.tls_expires_in = absl::Hours(24 * 13);
        }},
       V::kWarn,
       "expires in 13 days"},
      {"tls",
       "Expired",
       {{},
        [](Config& config, Machine& machine) {
          config.tls.cert = "c.pem";
          machine.tls_expires_in = -absl::Hours(49);
        }},
       V::kFail,
       "expired 2 days ago"},
      {"tls",
       "Broken",
       {{},
        [](Config& config, Machine& machine) {
          config.tls.cert = "c.pem";
          machine.tls_expires_in = absl::InvalidArgumentError("c.pem: no certificate");
        }},
       V::kFail,
       "no certificate"},
      {"access", "ThisMachineOnly", {}, V::kOk, "this machine only"},
      {"access",
       "Keys",
       {{},
        [](Config& config, Machine&) {
          config.listen = "0.0.0.0:50051";
          config.tenants_file = "tenants.yaml";
        }},
       V::kOk,
       "needs a key"},
      {"access",
       "Open",
       {{}, [](Config& config, Machine&) { config.listen = "0.0.0.0:50051"; }},
       V::kWarn,
       "whoever reaches 0.0.0.0:50051"},
      {"store space", "Enough", {}, V::kOk, "500.0 GiB free in /data"},
      {"store space",
       "Tight",
       {{}, [](Config&, Machine& machine) { machine.store_free_bytes = 2 * kGiB; }},
       V::kWarn,
       "2.0 GiB free"},
      {"store space",
       "Full",
       {{}, [](Config&, Machine& machine) { machine.store_free_bytes = 1 << 20; }},
       V::kFail,
       "1.0 MiB free"},
      {"store fsync", "Fast", {}, V::kOk, "0.50 ms"},
      {"store fsync",
       "Slow",
       {{}, [](Config&, Machine& machine) { machine.store_fsync_ms = 35.0; }},
       V::kWarn,
       "35.00 ms"},
      {"store fsync",
       "InMemory",
       {{}, [](Config&, Machine& machine) { machine.store_in_memory = true; }},
       V::kWarn,
       "lies in memory"},
      {"store fsync",
       "NotWritable",
       {{},
        [](Config&, Machine& machine) {
          machine.store_fsync_ms = absl::UnavailableError("/data: Permission denied");
        }},
       V::kFail,
       "Permission denied"},
  };
  return *cases;
}
// NOLINTEND

class DoctorCheckTest : public ::testing::TestWithParam<CheckCase> {};

TEST_P(DoctorCheckTest, TellsGoodFromBad) {
  const CheckCase& param = GetParam();
  const TempFolder root;
  std::map<std::string, std::string> files = GoodFiles();
  for (const auto& [name, text] : param.change.files) files[name] = text;
  WriteTree(root.path(), files);
  Config config = GoodConfig();
  Machine machine = GoodMachine(root.path());
  param.change.apply(config, machine);
  for (const DoctorCheck& check : DoctorChecks()) {
    if (check.name != param.check) continue;
    const Finding finding = check.run(config, machine);
    EXPECT_EQ(VerdictName(finding.verdict), VerdictName(param.verdict)) << finding.found;
    EXPECT_THAT(finding.found, HasSubstr(param.found));
    EXPECT_EQ(finding.advice.empty(), finding.verdict == Verdict::kOk)
        << "what is wrong needs advice, and nothing else does: " << finding.advice;
    return;
  }
  FAIL() << "there is no check " << param.check;
}

INSTANTIATE_TEST_SUITE_P(Table, DoctorCheckTest, ::testing::ValuesIn(Cases()),
                         [](const auto& info) {
                           std::string name = info.param.check;
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return absl::StrCat(name, "_", info.param.title);
                         });

TEST(DoctorTest, EveryCheckHasItsGoodAndItsBadCase) {
  std::map<std::string, std::set<bool>> seen;
  for (const CheckCase& row : Cases()) seen[row.check].insert(row.verdict == Verdict::kOk);
  for (const DoctorCheck& check : DoctorChecks()) {
    EXPECT_EQ(seen[std::string(check.name)].size(), 2u) << check.name;
  }
}

TEST(DoctorTest, ReportHasALinePerCheckAndTheWorstVerdict) {
  const TempFolder root;
  WriteTree(root.path(), GoodFiles());
  Machine machine = GoodMachine(root.path());
  DoctorReport report = Examine(GoodConfig(), machine);
  EXPECT_EQ(report.verdict, Verdict::kOk) << report.text;
  EXPECT_THAT(report.text, HasSubstr("22 OK, 0 WARN, 0 FAIL"));

  machine.store_in_memory = true;
  machine.listen = absl::UnavailableError("\xff taken");
  report = Examine(GoodConfig(), machine);
  EXPECT_EQ(report.verdict, Verdict::kFail);
  EXPECT_THAT(report.text, HasSubstr("20 OK, 1 WARN, 1 FAIL"));
  EXPECT_THAT(report.text, HasSubstr("ss -ltnp"));
  const nlohmann::json json = nlohmann::json::parse(report.json);
  EXPECT_EQ(json["verdict"], "FAIL");
  ASSERT_EQ(json["checks"].size(), DoctorChecks().size());
  EXPECT_EQ(json["checks"][0]["name"], "driver");
  EXPECT_EQ(json["checks"][0]["verdict"], "OK");
}

class RunDoctorTest : public ::testing::Test {
 protected:
  RunDoctorTest() {
    std::filesystem::create_directory(temp_.path() / "model");
    engine_.describe_device = [](const EngineOptions& options) {
      EXPECT_EQ(options.device, "cuda");
      return absl::StatusOr<DeviceInfo>(kNotBuilt);
    };
    engine_.inspect_model = [](const EngineOptions&) { return ModelFiles(); };
    line_.command = "doctor";
    line_.config =
        temp_.Write("config.yaml",
                    "engine: {model: model, device: reference}\n"
                    "store: {path: not/there/yet}\n"
                    "server: {listen: '127.0.0.1:0', admin_listen: ''}\nmetrics: {listen: ''}\n");
  }

  int Run() {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const int code = RunDoctor(line_, {}, engine_);
    output_ = ::testing::internal::GetCapturedStdout();
    errors_ = ::testing::internal::GetCapturedStderr();
    return code;
  }

  const TempFolder temp_;
  DoctorEngine engine_;
  CommandLine line_;
  std::string output_;
  std::string errors_;
};

TEST_F(RunDoctorTest, TheRealMachineIsLookedAtAndNothingStays) {
  Run();
  EXPECT_THAT(output_, HasSubstr("store fsync"));
  EXPECT_THAT(output_, HasSubstr("a write is on disk after"));
  EXPECT_FALSE(std::filesystem::exists(temp_.path() / "not"));
  size_t num_entries = 0;
  for (const auto& entry : std::filesystem::directory_iterator(temp_.path())) {
    num_entries += !entry.path().empty();
  }
  EXPECT_EQ(num_entries, 2u) << "config.yaml and model";
  line_.json = true;
  Run();
  EXPECT_EQ(nlohmann::json::parse(output_)["checks"].size(), DoctorChecks().size());
}

TEST_F(RunDoctorTest, ATakenPortFails) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string taken = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  line_.overrides = {"server.listen=" + taken};
  EXPECT_EQ(Run(), kExitFailure);
  EXPECT_THAT(output_, HasSubstr(taken + ": cannot be taken: Address already in use"));
  close(fd);
}

TEST_F(RunDoctorTest, ABadConfigurationIsUsage) {
  line_.overrides = {"server.lisen=x"};
  EXPECT_EQ(Run(), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr("server.lisen"));
  EXPECT_THAT(output_, IsEmpty());
}

}  // namespace
}  // namespace moelight
