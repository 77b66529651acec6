// Goal: a profile survives the way through a file, and every mistake in one is told with file,
// line, key and reason.
#include "server/hardware_file.h"

#include <string>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/temp_folder.h"
#include "tests/testing/hardware_profiles.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kSmallFile[] =
    "name: box\n"                                            // 1
    "source: made up\n"                                      // 2
    "host:\n"                                                // 3
    "  name: CPU\n"                                          // 4
    "  num_threads: 3\n"                                     // 5
    "  memory_bytes: 8GiB\n"                                 // 6
    "  read_bytes_per_s: 40e9\n"                             // 7
    "  shared_bytes_per_s: 45e9\n"                           // 8
    "  peak_flops_per_s: 1.25e12\n"                          // 9
    "  attention:\n"                                         // 10
    "    - {kv_format: bf16, group_size: 4,\n"               // 11
    "       bytes_per_s: [[128, 20e9], [4096, 31e9]]}\n"     // 12
    "  experts:\n"                                           // 13
    "    - {hidden_size: 4096, intermediate_size: 14336,\n"  // 14
    "       flops_per_s: [[1, 20e9], [512, 0.7e12]]}\n"      // 15
    "  sample_bytes_per_s: 9e9\n";                           // 16

constexpr char kGpu[] =
    "gpu:\n"                                                // 17
    "  name: GPU\n"                                         // 18
    "  count: 1\n"                                          // 19
    "  memory_bytes: 16GiB\n"                               // 20
    "  memory_bytes_per_s: 250e9\n"                         // 21
    "  launch_us: 4.5\n"                                    // 22
    "  matmul_flops_per_s: [[1, 1e12]]\n"                   // 23
    "  experts:\n"                                          // 24
    "    - hidden_size: 4096\n"                             // 25
    "      intermediate_size: 14336\n"                      // 26
    "      flops_per_s: [[1, 1e12]]\n"                      // 27
    "  attention_flops_per_s: 1e13\n"                       // 28
    "link:\n"                                               // 29
    "  h2d_bytes_per_s: [[1MiB, 9e9], [67108864, 12e9]]\n"  // 30
    "  d2h_bytes_per_s: [[1MiB, 9e9]]\n"                    // 31
    "  both_bytes_per_s: 20e9\n"                            // 32
    "  latency_us: 8\n";                                    // 33

TEST(HardwareFileTest, RoundTrip) {
  for (const HardwareProfile& profile : {ProfileWithGpu(), ProfileWithoutGpu()}) {
    const std::string yaml = HardwareProfileToYaml(profile);
    const absl::StatusOr<HardwareProfile> again = ParseHardwareProfile(yaml, "x.yaml");
    ASSERT_TRUE(again.ok()) << again.status() << yaml;
    EXPECT_EQ(HardwareProfileToYaml(*again), yaml);
    EXPECT_EQ(again->name, profile.name);
    EXPECT_EQ(again->fingerprint, "0123abcd");
    EXPECT_EQ(again->host.pinnable_bytes, 6LL << 30);
    EXPECT_EQ(again->host.attention[0].bytes_per_s.points[1].rate, 31.4159e9);
    EXPECT_EQ(again->host.experts[1].intermediate_size, 768);
    EXPECT_EQ(again->gpu.count, profile.gpu.count);
    EXPECT_EQ(again->gpu.launch_us, profile.gpu.launch_us);
    EXPECT_EQ(again->link.h2d_bytes_per_s.points.size(),
              profile.link.h2d_bytes_per_s.points.size());
    EXPECT_EQ(again->power.link_watts, profile.power.link_watts);
  }
}

TEST(HardwareFileTest, SixDigitsAreKept) {
  for (double rate : {1.0, 0.00123457, 999999.0, 999999.5, 1e6, 123456e3, 999.999e9, 999.9999e9,
                      1.23456e17, 1e18}) {
    HardwareProfile profile = ProfileWithoutGpu();
    profile.host.sample_bytes_per_s = rate;
    const std::string yaml = HardwareProfileToYaml(profile);
    const absl::StatusOr<HardwareProfile> again = ParseHardwareProfile(yaml, "x.yaml");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_NEAR(again->host.sample_bytes_per_s / rate, 1, 1e-6) << rate;
  }
}

TEST(HardwareFileTest, TextReadsWell) {
  const std::string yaml = HardwareProfileToYaml(ProfileWithGpu());
  for (const char* line : {
           "#   host.attention[].group_size        query heads per KV head\n",
           "\nname: \"small box\"\n",
           "\n  memory_bytes: 8GiB\n",
           "\n  attention:\n    - kv_format: \"bf16\"\n      group_size: 4\n"
           "      bytes_per_s: [[128, 20e9], [4096, 31.4159e9]]\n",
           "\n  h2d_bytes_per_s: [[256KiB, 9e9], [16MiB, 12.5e9]]\n",
           "\npower:\n  idle_watts: 100\n",
       }) {
    EXPECT_THAT(yaml, HasSubstr(line));
  }
  const std::string without = HardwareProfileToYaml(ProfileWithoutGpu());
  for (const char* section : {"\ngpu:", "\nlink:", "\npower:"}) {
    EXPECT_THAT(without, Not(HasSubstr(section)));
  }
}

TEST(HardwareFileTest, LongCurvesAreBrokenIntoLines) {
  HardwareProfile profile = ProfileWithoutGpu();
  profile.host.read_bytes_per_s_by_threads.points.clear();
  for (int i = 1; i <= 30; ++i) {
    profile.host.read_bytes_per_s_by_threads.points.push_back({i * 1.0, i * 1.23456e9});
  }
  const std::string yaml = HardwareProfileToYaml(profile);
  size_t begin = 0;
  for (size_t end; (end = yaml.find('\n', begin)) != std::string::npos; begin = end + 1) {
    EXPECT_LE(end - begin, 100) << yaml.substr(begin, end - begin);
  }
  const absl::StatusOr<HardwareProfile> again = ParseHardwareProfile(yaml, "x.yaml");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->host.read_bytes_per_s_by_threads.points.size(), 30);
}

TEST(HardwareFileTest, TextsCannotBreakTheFile) {
  for (const char* text : {"a: b # c", "\"quoted\" \\ and\nlines\t\x7f", "null", "Xeon\xc2\xae"}) {
    HardwareProfile profile = ProfileWithoutGpu();
    profile.name = text;
    const absl::StatusOr<HardwareProfile> again =
        ParseHardwareProfile(HardwareProfileToYaml(profile), "x.yaml");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->name, text);
  }
}

TEST(HardwareFileTest, FilesAreWrittenAndRead) {
  const TempFolder folder;
  const std::string file = folder.path() / "box.yaml";
  ASSERT_EQ(WriteHardwareProfile(file, ProfileWithGpu()), absl::OkStatus());
  const absl::StatusOr<HardwareProfile> profile = ReadHardwareProfile(file);
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ(profile->gpu.name, "a GPU");
  EXPECT_THAT(std::string(ReadHardwareProfile(folder.path() / "none").status().message()),
              HasSubstr("none: cannot be opened"));
  EXPECT_THAT(std::string(ReadHardwareProfile(folder.Write("bad.yaml", "x")).status().message()),
              HasSubstr("bad.yaml:1: not a mapping of keys to values"));
}

TEST(HardwareFileTest, SizesMayBePlainNumbers) {
  const absl::StatusOr<HardwareProfile> profile =
      ParseHardwareProfile(absl::StrCat(kSmallFile, kGpu), "x.yaml");
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ(profile->host.memory_bytes, 8LL << 30);
  EXPECT_EQ(profile->host.pinnable_bytes, -1);
  EXPECT_EQ(profile->link.h2d_bytes_per_s.points[0].size, 1 << 20);
  EXPECT_EQ(profile->link.h2d_bytes_per_s.points[1].size, 64 << 20);
}

struct InvalidCase {
  const char* name;
  const char* from;  // text of the valid file that is replaced
  const char* to;
  const char* error;
};

class InvalidHardwareFileTest : public ::testing::TestWithParam<InvalidCase> {};

TEST_P(InvalidHardwareFileTest, IsRefusedWithLineKeyAndReason) {
  const std::string valid = absl::StrCat(kSmallFile, kGpu);
  ASSERT_THAT(valid, HasSubstr(GetParam().from));
  const std::string text = absl::StrReplaceAll(valid, {{GetParam().from, GetParam().to}});
  const absl::StatusOr<HardwareProfile> profile = ParseHardwareProfile(text, "x.yaml");
  EXPECT_EQ(profile.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(profile.status().message()), GetParam().error);
}

INSTANTIATE_TEST_SUITE_P(
    Table, InvalidHardwareFileTest,
    ::testing::Values(
        InvalidCase{"UnknownKey", "  num_threads", "  num_treads",
                    "x.yaml:5: host.num_treads: unknown key, did you mean num_threads?"},
        InvalidCase{"UnknownSection",
                    "link:", "links:", "x.yaml:29: links: unknown key, did you mean link?"},
        InvalidCase{"UnknownKeyInAList", "kv_format: bf16,", "kv_format: bf16, x: 1,",
                    "x.yaml:11: host.attention[0].x: unknown key"},
        InvalidCase{"DuplicateKey", "  num_threads: 3", "  num_threads: 3\n  num_threads: 4",
                    "x.yaml:6: host.num_threads: duplicate key, first in line 5"},
        InvalidCase{"KeyIsAList", "name: box", "[a]: b", "x.yaml:1: a key that is not a word"},
        InvalidCase{"MissingText", "name: box\n", "", "x.yaml:1: name: missing"},
        InvalidCase{"MissingNumber", "  peak_flops_per_s: 1.25e12\n", "",
                    "x.yaml:3: host.peak_flops_per_s: missing"},
        InvalidCase{"MissingInAList", "group_size: 4,", "",
                    "x.yaml:11: host.attention[0].group_size: missing"},
        InvalidCase{"MissingCurve", "  d2h_bytes_per_s: [[1MiB, 9e9]]\n", "",
                    "x.yaml:29: link.d2h_bytes_per_s: missing"},
        InvalidCase{"MissingCount", "  count: 1\n", "", "x.yaml:17: gpu.count: missing"},
        InvalidCase{"NoValue", "num_threads: 3",
                    "num_threads:", "x.yaml:5: host.num_threads: has no value"},
        InvalidCase{"NotANumber", "launch_us: 4.5", "launch_us: 4.5us",
                    "x.yaml:22: gpu.launch_us: \"4.5us\" is not a number"},
        InvalidCase{"NotFinite", "launch_us: 4.5", "launch_us: nan",
                    "x.yaml:22: gpu.launch_us: nan is not a finite number"},
        InvalidCase{"TooLargeToBeANumber", "launch_us: 4.5", "launch_us: 1e999",
                    "x.yaml:22: gpu.launch_us: inf is not a finite number"},
        InvalidCase{"QuotedNumber", "launch_us: 4.5", "launch_us: '4.5'",
                    "x.yaml:22: gpu.launch_us: a string in quotes, not a number"},
        InvalidCase{"FractionOfAThread", "num_threads: 3", "num_threads: 3.5",
                    "x.yaml:5: host.num_threads: \"3.5\" is not a whole number"},
        InvalidCase{"TooManyThreads", "num_threads: 3", "num_threads: 4294967299",
                    "x.yaml:5: host.num_threads: 4294967299 is out of range"},
        InvalidCase{"NotASize", "memory_bytes: 8GiB", "memory_bytes: 8GB",
                    "x.yaml:6: host.memory_bytes: \"8GB\" is not a size such as 16GiB, 512MiB, "
                    "64KiB or 100B"},
        InvalidCase{"ListForNumber", "read_bytes_per_s: 40e9", "read_bytes_per_s: [40e9]",
                    "x.yaml:7: host.read_bytes_per_s: a list, not a number"},
        InvalidCase{"MapForText", "name: box", "name: {a: b}",
                    "x.yaml:1: name: a mapping, not text"},
        InvalidCase{"NumberForCurve", "d2h_bytes_per_s: [[1MiB, 9e9]]", "d2h_bytes_per_s: 9e9",
                    "x.yaml:31: link.d2h_bytes_per_s: not a list of points [size, rate]"},
        InvalidCase{"PointOfThree", "[[1MiB, 9e9]]", "[[1MiB, 9e9, 1]]",
                    "x.yaml:31: link.d2h_bytes_per_s[0]: not a [size, rate]"},
        InvalidCase{"SizeInAPoint", "[[1MiB, 9e9]]", "[[1MB, 9e9]]",
                    "x.yaml:31: link.d2h_bytes_per_s[0].size: \"1MB\" is not a size such as 16GiB, "
                    "512MiB, 64KiB or 100B"},
        InvalidCase{"NothingInAPoint", "[[1MiB, 9e9]]", "[[1MiB, ~]]",
                    "x.yaml:31: link.d2h_bytes_per_s[0].rate: nothing, not a number"},
        InvalidCase{"EmptyCurve", "[[1MiB, 9e9]]", "[]", "x.yaml:31: link.d2h_bytes_per_s: empty"},
        InvalidCase{"RateIsZero", "[4096, 31e9]", "[4096, 0]",
                    "x.yaml:12: host.attention[0].bytes_per_s[1].rate: 0 is not positive"},
        InvalidCase{"SizesDescend", "[4096, 31e9]", "[100, 31e9]",
                    "x.yaml:12: host.attention[0].bytes_per_s[1].size: 100 is not more than 128, "
                    "the size of the point before"},
        InvalidCase{"ScalarForSection", "link:\n", "power: 1\nlink:\n",
                    "x.yaml:29: power: not a mapping of keys to values"},
        InvalidCase{"AllAtOnce", "  count: 1\n  memory_bytes: 16GiB\n",
                    "  count: one\n  memory_bytes: 16G\n",
                    "x.yaml:19: gpu.count: \"one\" is not a whole number\n"
                    "x.yaml:20: gpu.memory_bytes: \"16G\" is not a size such as 16GiB, 512MiB, "
                    "64KiB or 100B"},
        InvalidCase{"SecondDocument", "link:\n", "---\nlink:\n",
                    "x.yaml:30: a second YAML document; only one is read"},
        InvalidCase{"NotYaml", "count: 1", "count: [1",
                    "x.yaml:20: not YAML: end of sequence flow not found"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(HardwareFileTest, OtherTextIsRefused) {
  const auto error = [](const std::string& text) {
    return std::string(ParseHardwareProfile(text, "x.yaml").status().message());
  };
  EXPECT_EQ(error(""), "x.yaml:1: empty");
  EXPECT_EQ(error("# nothing\n"), "x.yaml:1: empty");
  EXPECT_EQ(error("just text"), "x.yaml:1: not a mapping of keys to values");
  EXPECT_EQ(error("- 1\n"), "x.yaml:1: not a mapping of keys to values");
}

// A few lines that would be terabytes if every alias were followed.
TEST(HardwareFileTest, AliasesCannotExplode) {
  std::string text = "name: &a [1, 1]\nsource: &b [";
  for (int i = 0; i < 20'000; ++i) absl::StrAppend(&text, "*a,");
  absl::StrAppend(&text, "]\nhost:\n  attention:\n");
  for (int i = 0; i < 20'000; ++i) {
    absl::StrAppend(&text, "    - {kv_format: x, group_size: 1, bytes_per_s: *b}\n");
  }
  const absl::StatusOr<HardwareProfile> profile = ParseHardwareProfile(text, "x.yaml");
  EXPECT_THAT(std::string(profile.status().message()),
              HasSubstr("x.yaml:4: host.attention: a list of 20000, limit 256"));
}

}  // namespace
}  // namespace moelight
