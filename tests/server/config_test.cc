// Goal: every mistake in a configuration is told with file, line, key and reason, all at once, and
// nothing is ignored.
#include "server/config.h"

#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/server/temp_folder.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

class ConfigTest : public ::testing::Test {
 protected:
  ConfigTest() { std::filesystem::create_directory(folder_.path() / "model"); }

  // Loads `text` as config.yaml of the folder.
  absl::StatusOr<Config> Load(const std::string& text, ConfigSources sources = {}) {
    sources.file = folder_.Write("config.yaml", text);
    return LoadConfig(sources);
  }
  // The error with the folder's path left out.
  std::string Error(const std::string& text, ConfigSources sources = {}) {
    const absl::StatusOr<Config> config = Load(text, std::move(sources));
    if (config.ok()) return "";
    return absl::StrReplaceAll(config.status().message(),
                               {{absl::StrCat(folder_.path().string(), "/"), ""}});
  }

  TempFolder folder_;
};

TEST_F(ConfigTest, DefaultsStandWhereNothingIsSaid) {
  const absl::StatusOr<Config> config = Load("engine:\n  model: model\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->listen, "127.0.0.1:50051");
  EXPECT_EQ(config->metrics_listen, "127.0.0.1:9464");
  EXPECT_EQ(config->store_path, (folder_.path() / "moelight-data").string());
  EXPECT_EQ(config->engine.model, (folder_.path() / "model").string());
  EXPECT_EQ(config->engine.max_running_sequences, 0);
  EXPECT_EQ(RowsInFlight(*config, 256), 256 + 512);
}

TEST_F(ConfigTest, ValuesOfEveryKindAreRead) {
  const absl::StatusOr<Config> config = Load(
      "server:\n  listen: 0.0.0.0:1\n  allow_insecure: true\n  tls:\n"
      "  limits: {row_bytes: 2KiB, jobs: 5}\n"
      "store: {path: /var/x/../data, retention: 90m}\n"
      "metrics: {listen: \"\"}\n"
      "engine: {model: model, device: reference, host_memory: 16GiB, cpu_threads: 3,\n"
      "         cpu_pinning: off, prefill: separate, admission: reserved, expert_coalescing: off,\n"
      "         prefix_sharing: false}\n"
      "log: {level: debug, format: json}\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->allow_insecure);
  EXPECT_EQ(config->store_limits.row_bytes, 2048);
  EXPECT_EQ(config->store_limits.jobs, 5);
  EXPECT_EQ(config->store_path, "/var/data");
  EXPECT_EQ(config->store_retention_seconds, 5400);
  EXPECT_EQ(config->metrics_listen, "");
  EXPECT_EQ(config->engine.device, "reference");
  EXPECT_EQ(config->engine.host_memory_bytes, 16LL << 30);
  EXPECT_EQ(config->engine.cpu_threads, 3);
  EXPECT_EQ(config->engine.cpu_isa, "auto");
  EXPECT_EQ(config->engine.cpu_pinning, "off");
  EXPECT_EQ(config->engine.prefill, "separate");
  EXPECT_EQ(config->engine.admission, "reserved");
  EXPECT_EQ(config->engine.expert_coalescing, "off");
  EXPECT_FALSE(config->engine.prefix_sharing);
  EXPECT_EQ(config->log_format, "json");
}

TEST_F(ConfigTest, SettingsOfTheGpuReachTheEngine) {
  const absl::StatusOr<Config> config = Load(
      "engine:\n  model: model\n  device: cuda\n  gpu_memory: 16GiB\n  schedule: flexgen_cpu\n"
      "  weight_page: 4MiB\n  num_micro_batches: 8\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->engine.device, "cuda");
  EXPECT_EQ(config->engine.gpu_memory_bytes, 16LL << 30);
  EXPECT_EQ(config->engine.schedule, "flexgen_cpu");
  EXPECT_EQ(config->engine.weight_page_bytes, 4 << 20);
  EXPECT_EQ(config->engine.num_micro_batches, 8);
  // A cap does not ask for a GPU: it bounds what is taken if there is one.
  EXPECT_TRUE(Load("engine: {model: model, device: auto, gpu_memory: 1GiB}\n").ok());
}

TEST_F(ConfigTest, LaterSourcesWinAndAreChecked) {
  ConfigSources sources;
  sources.environment = {{"PATH", "/bin"},
                         {"MOELIGHT_SERVER", "elsewhere:1"},
                         {"MOELIGHT__ENGINE__CPU_THREADS", "2"},
                         {"MOELIGHT__SERVER__LIMITS__ROW_BYTES", "4KiB"}};
  sources.overrides = {"engine.cpu_threads=7", "engine.model=model"};
  ConfigSources absolute = sources;
  absolute.overrides[1] = absl::StrCat("engine.model=", (folder_.path() / "model").string());
  const absl::StatusOr<Config> config = Load("engine: {cpu_threads: 1, model: nowhere}", absolute);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->engine.cpu_threads, 7);
  EXPECT_EQ(config->store_limits.row_bytes, 4096);
  // A relative path in an override starts at the working directory, where there is no such folder.
  EXPECT_THAT(Error("", sources), HasSubstr("--set: engine.model: \""));

  sources.environment = {{"MOELIGHT__ENGINE__CPU_TREADS", "2"}, {"MOELIGHT__LOG__LEVEL", "loud"}};
  sources.overrides = {"engine.cpu_threads", "nothing=1", "server.limits.jobs=0"};
  EXPECT_EQ(Error("engine: {model: model}", sources),
            "MOELIGHT__ENGINE__CPU_TREADS: engine.cpu_treads: unknown key, did you mean "
            "engine.cpu_threads?\n"
            "MOELIGHT__LOG__LEVEL: log.level: \"loud\" is not one of debug, info, warning, error, "
            "off\n"
            "--set: engine.cpu_threads: not key=value\n"
            "--set: nothing: unknown key\n"
            "--set: server.limits.jobs: 0 is out of range: 1 to 1000000");
}

TEST_F(ConfigTest, EffectiveConfigurationReadsBackEqual) {
  const std::string profile = folder_.Write("box.yaml", "");
  const absl::StatusOr<Config> config = Load(
      "server: {listen: '[::1]:7', limits: {row_bytes: 3KiB}}\n"
      "engine: {model: model, policy: manual, objective: energy, hardware_profile: box.yaml,\n"
      "         expected_prompt_tokens: 77, expected_max_prompt_tokens: 418,\n"
      "         expected_output_tokens: 32, weight_page: 4MiB, weight_ring_percent: 125}\n"
      "store: {retention: 25h}\n");
  ASSERT_TRUE(config.ok()) << config.status();
  const std::string yaml = EffectiveConfigYaml(*config);
  const absl::StatusOr<Config> again = Load(yaml);
  ASSERT_TRUE(again.ok()) << again.status() << yaml;
  EXPECT_EQ(EffectiveConfigYaml(*again), yaml);
  EXPECT_EQ(again->listen, "[::1]:7");
  EXPECT_EQ(again->store_retention_seconds, 25 * 3600);
  EXPECT_EQ(again->hardware_profile, profile);
  EXPECT_EQ(again->engine.policy, "manual");
  EXPECT_EQ(again->engine.objective, "energy");
  EXPECT_EQ(again->engine.workload.mean_prompt_tokens, 77);
  EXPECT_EQ(again->engine.workload.max_prompt_tokens, 418);
  EXPECT_EQ(again->engine.workload.num_output_tokens, 32);
  EXPECT_EQ(again->engine.weight_page_bytes, 4 << 20);
  EXPECT_EQ(again->engine.weight_ring_percent, 125);
  EXPECT_EQ(again->engine.max_running_sequences, 0) << "still the policy's to choose";
}

struct InvalidCase {
  const char* name;
  const char* text;  // "engine: {model: model}" is put in front unless it has an engine section
  const char* error;
};

class InvalidConfigTest : public ConfigTest, public ::testing::WithParamInterface<InvalidCase> {};

TEST_P(InvalidConfigTest, IsRefusedWithLineKeyAndReason) {
  std::string text = GetParam().text;
  if (text.find("engine:") == std::string::npos) text += "\nengine: {model: model}\n";
  EXPECT_EQ(Error(text), GetParam().error);
}

INSTANTIATE_TEST_SUITE_P(
    Table, InvalidConfigTest,
    ::testing::Values(
        InvalidCase{"UnknownKey", "server:\n  listn: a:1\n",
                    "config.yaml:2: server.listn: unknown key, did you mean server.listen?"},
        InvalidCase{"UnknownSection", "sever: {listen: 1}\n", "config.yaml:1: sever: unknown key"},
        InvalidCase{"MergeKey", "server:\n  <<: {listen: a:1}\n",
                    "config.yaml:2: server.<<: unknown key"},
        InvalidCase{"DuplicateKey", "log:\n  level: info\n  format: json\n  level: debug\n",
                    "config.yaml:4: log.level: duplicate key, first in line 2"},
        InvalidCase{"DuplicateSection", "log: {level: info}\nlog: {format: json}\n",
                    "config.yaml:2: log: duplicate key, first in line 1"},
        InvalidCase{"AllAtOnce", "log: {level: loud}\nstore: {retention: 7}\nx: 1\n",
                    "config.yaml:1: log.level: \"loud\" is not one of debug, info, warning, error, "
                    "off\n"
                    "config.yaml:2: store.retention: \"7\" is not a duration such as 30s, 15m, 12h "
                    "or 7d\n"
                    "config.yaml:3: x: unknown key"},
        InvalidCase{"ListForNumber", "server: {limits: {jobs: [1]}}\n",
                    "config.yaml:1: server.limits.jobs: a list, not 1 to 1000000"},
        InvalidCase{"MapForText", "server: {listen: {a: b}}\n",
                    "config.yaml:1: server.listen: a mapping, not text"},
        InvalidCase{"ClientWeights", "server:\n  client_weights: alice=3, bob=0\n",
                    "config.yaml:2: server.client_weights: the weight of \"bob\" is \"0\", must be "
                    "1 to 1000"},
        InvalidCase{"Prefill", "engine: {model: model, prefill: both}\n",
                    "config.yaml:1: engine.prefill: \"both\" is not one of mixed, separate"},
        InvalidCase{"NoValue", "server:\n  listen:\n",
                    "config.yaml:2: server.listen: has no value: text"},
        InvalidCase{"ScalarForSection", "server: yes\n",
                    "config.yaml:1: server: not a mapping of keys to values"},
        InvalidCase{"QuotedNumber", "server: {limits: {jobs: '5'}}\n",
                    "config.yaml:1: server.limits.jobs: a string in quotes, not 1 to 1000000"},
        InvalidCase{"WrongBool", "server: {allow_insecure: yes}\n",
                    "config.yaml:1: server.allow_insecure: \"yes\" is not true or false"},
        InvalidCase{"OutOfRange", "server: {limits: {message_bytes: 1GiB}}\n",
                    "config.yaml:1: server.limits.message_bytes: 1GiB is out of range: 64KiB to "
                    "64MiB"},
        InvalidCase{"NotAddress", "server: {listen: 50051}\n",
                    "config.yaml:1: server.listen: \"50051\" is not HOST:PORT with a port of 0 to "
                    "65535"},
        InvalidCase{"PublicWithoutTls", "server:\n\n  listen: 0.0.0.0:50051\n",
                    "config.yaml:3: server.listen: 0.0.0.0:50051 can be reached from other "
                    "machines: set server.tls.cert and server.tls.key, or server.allow_insecure: "
                    "true"},
        InvalidCase{"SameAddressTwice", "metrics: {listen: 127.0.0.1:50051}\n",
                    "config.yaml:1: metrics.listen: 127.0.0.1:50051 is server.listen too"},
        InvalidCase{"CertWithoutKey", "server: {tls: {cert: config.yaml}}\n",
                    "config.yaml:1: server.tls.cert: cannot take effect without server.tls.key"},
        InvalidCase{"ClientCaAlone", "server: {tls: {client_ca: config.yaml}}\n",
                    "config.yaml:1: server.tls.client_ca: cannot take effect without "
                    "server.tls.cert"},
        InvalidCase{"NoSuchCert", "server: {tls: {cert: none.pem, key: config.yaml}}\n",
                    "config.yaml:1: server.tls.cert: \"none.pem\" is not a file that can be read"},
        InvalidCase{"UnknownDevice", "engine: {model: model, device: tpu}\n",
                    "config.yaml:1: engine.device: \"tpu\" is not one of auto, cuda, cpu, "
                    "reference"},
        InvalidCase{"GpuMemoryOnCpu", "engine: {model: model, device: cpu, gpu_memory: 16GiB}\n",
                    "config.yaml:1: engine.gpu_memory: 16GiB cannot take effect: engine.device is "
                    "cpu"},
        InvalidCase{"GpuMemoryOnReference",
                    "engine:\n  model: model\n  device: reference\n  gpu_memory: 1B\n",
                    "config.yaml:4: engine.gpu_memory: 1B cannot take effect: engine.device is "
                    "reference"},
        InvalidCase{"UnknownSchedule", "engine: {model: model, schedule: fast}\n",
                    "config.yaml:1: engine.schedule: \"fast\" is not one of auto, cgopipe, serial, "
                    "flexgen, flexgen_cpu"},
        InvalidCase{"WeightPageNoPowerOfTwo", "engine:\n  model: model\n  weight_page: 3MiB\n",
                    "config.yaml:3: engine.weight_page: 3MiB is not a power of two of at least "
                    "1MiB"},
        InvalidCase{
            "WeightPageTooSmall", "engine: {model: model, weight_page: 128B}\n",
            "config.yaml:1: engine.weight_page: 128B is not a power of two of at least 1MiB"},
        InvalidCase{"WeightPageTooLarge", "engine: {model: model, weight_page: 2GiB}\n",
                    "config.yaml:1: engine.weight_page: 2GiB is out of range: 0 to 1GiB"},
        InvalidCase{"IsaOnReference", "engine: {model: model, device: reference, cpu_isa: avx2}\n",
                    "config.yaml:1: engine.cpu_isa: avx2 cannot take effect: engine.device is "
                    "reference"},
        InvalidCase{"Pinning", "engine: {model: model, cpu_pinning: yes}\n",
                    "config.yaml:1: engine.cpu_pinning: \"yes\" is not one of auto, on, off"},
        InvalidCase{"TooManyMicroBatches", "engine: {model: model, num_micro_batches: 65}\n",
                    "config.yaml:1: engine.num_micro_batches: 65 is out of range: 0 to 64"},
        InvalidCase{"WeightFormat", "engine: {model: model, weight_format: int4}\n",
                    "config.yaml:1: engine.weight_format: \"int4\" cannot take effect: this build "
                    "has no choice of weight formats"},
        InvalidCase{"Policy", "engine: {model: model, policy: joules}\n",
                    "config.yaml:1: engine.policy: \"joules\" is not one of auto, manual"},
        InvalidCase{"RingSmallerThanALayer", "engine: {model: model, weight_ring_percent: 99}\n",
                    "config.yaml:1: engine.weight_ring_percent: 99 percent do not hold one layer: "
                    "100 to 200"},
        InvalidCase{"NoProfile", "engine: {model: model, hardware_profile: nowhere.yaml}\n",
                    "config.yaml:1: engine.hardware_profile: \"nowhere.yaml\" is not a file"},
        InvalidCase{"LongestPromptBelowTheMean",
                    "engine: {model: model, expected_max_prompt_tokens: 8}\n",
                    "config.yaml:1: engine.expected_max_prompt_tokens: 8 is below the mean, "
                    "engine.expected_prompt_tokens 256"},
        InvalidCase{"NoModel", "engine: {cpu_threads: 1}\n",
                    "config.yaml: engine.model: is required: the model folder"},
        InvalidCase{"ModelIsNoFolder", "engine: {model: config.yaml}\n",
                    "config.yaml:1: engine.model: \"config.yaml\" is not a folder"},
        InvalidCase{"StepTooSmall",
                    "engine: {model: model, max_step_tokens: 8, max_running_sequences: 9}\n",
                    "config.yaml:1: engine.max_step_tokens: 8 is less than one token for each of "
                    "engine.max_running_sequences 9"},
        InvalidCase{"RowsInFlightStarveBatch",
                    "server: {limits: {rows_in_flight: 255}}\n"
                    "engine: {model: model, max_running_sequences: 256}\n",
                    "config.yaml:1: server.limits.rows_in_flight: 255 rows never fill "
                    "engine.max_running_sequences 256"},
        InvalidCase{"RowsInFlightDoNotFit",
                    "server: {limits: {rows_in_flight: 1281}}\n"
                    "engine: {model: model, max_running_sequences: 256}\n",
                    "config.yaml:1: server.limits.rows_in_flight: 1281 rows do not fit "
                    "engine.max_running_sequences and engine.max_queued_requests, together 1280"},
        InvalidCase{"RowLargerThanMessage", "server: {limits: {row_bytes: 5MiB}}\n",
                    "config.yaml:1: server.limits.row_bytes: 5MiB is more than one message may "
                    "have, server.limits.message_bytes 4MiB"},
        InvalidCase{"BufferSmallerThanMessage", "server: {limits: {append_buffer: 3MiB}}\n",
                    "config.yaml:1: server.limits.append_buffer: 3MiB does not hold one message of "
                    "server.limits.message_bytes 4MiB"},
        InvalidCase{"List", "- engine:\n", "config.yaml:1: not a mapping of keys to values"},
        InvalidCase{"TwoDocuments", "log: {level: info}\n---\nengine: {model: model}\n",
                    "config.yaml:3: a second YAML document; only one is read"},
        InvalidCase{"KeyIsList", "server: {? [1] : 2}\n",
                    "config.yaml:1: server.: a key that is not a word"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(ConfigTest, FilesThatAreNoConfigurationAreNamed) {
  EXPECT_EQ(LoadConfig({folder_.path().string(), {}, {}}).status().message(),
            folder_.path().string() + ": is a folder, not a file");
  EXPECT_EQ(LoadConfig({"/nowhere/config.yaml", {}, {}}).status().message(),
            "/nowhere/config.yaml: cannot be opened");
  EXPECT_THAT(Error("server: {listen: [\n"), HasSubstr("config.yaml:2: not YAML: "));
  EXPECT_THAT(Error("a: b: c\nengine:\n"), HasSubstr("config.yaml:1: not YAML: "));
  EXPECT_EQ(Error(std::string((1 << 20) + 1, '#')), "config.yaml: larger than 1MiB, limit 1MiB");
  EXPECT_NE(Error(std::string("\x00\xff\xfe\x01", 4)), "");
}

TEST_F(ConfigTest, DeepOrSelfContainingYamlIsRefusedQuickly) {
  EXPECT_NE(Error(std::string(1000, '[')), "");
  EXPECT_NE(Error(absl::StrCat("server: ", std::string(100'000, '['))), "");
  EXPECT_NE(Error(absl::StrCat("server: ", std::string(100'000, '{'))), "");
  std::string nested;
  for (int i = 0; i < 700; ++i) nested += std::string(i, ' ') + "a:\n";
  EXPECT_NE(Error(nested), "");
  EXPECT_THAT(Error("server: &s\n  limits: *s\nengine: {model: model}\n"),
              HasSubstr("server.limits.limits: unknown key"));
}

}  // namespace
}  // namespace moelight
