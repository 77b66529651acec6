#include "server/config_values.h"

#include <gtest/gtest.h>

namespace moelight {
namespace {

TEST(ConfigValuesTest, SizesAndDurationsAreReadAndWrittenAlike) {
  const struct {
    const char* text;
    int64_t bytes;
  } sizes[] = {{"0", 0},           {"1B", 1},         {"100B", 100},
               {"64KiB", 65536},   {"3MiB", 3 << 20}, {"16GiB", 16LL << 30},
               {"2TiB", 2LL << 40}};
  for (const auto& size : sizes) {
    ASSERT_TRUE(ParseSize(size.text).ok()) << size.text;
    EXPECT_EQ(*ParseSize(size.text), size.bytes);
    EXPECT_EQ(FormatSize(size.bytes), size.text);
  }
  const struct {
    const char* text;
    int64_t seconds;
  } durations[] = {{"0", 0}, {"30s", 30}, {"15m", 900}, {"12h", 43200}, {"7d", 604800}};
  for (const auto& duration : durations) {
    ASSERT_TRUE(ParseDuration(duration.text).ok()) << duration.text;
    EXPECT_EQ(*ParseDuration(duration.text), duration.seconds);
    EXPECT_EQ(FormatDuration(duration.seconds), duration.text);
  }
}

TEST(ConfigValuesTest, MalformedValuesAreRefusedWithWhatIsExpected) {
  for (const char* text :
       {"", "16", "GiB", "16 GiB", "16gib", "16GB", "-1MiB", "1.5GiB", "0x10B", "99999999999TiB"}) {
    EXPECT_FALSE(ParseSize(text).ok()) << text;
  }
  for (const char* text : {"", "7", "d", "7 d", "7D", "-1s", "1h30m"}) {
    EXPECT_FALSE(ParseDuration(text).ok()) << text;
  }
  EXPECT_EQ(ParseSize("16GB").status().message(),
            "\"16GB\" is not a size such as 16GiB, 512MiB, 64KiB or 100B");
  EXPECT_EQ(ParseSize("99999999999TiB").status().message(), "\"99999999999TiB\" is too large");
  EXPECT_FALSE(ParseBool("yes").ok());
  EXPECT_FALSE(ParseInteger("1e6").ok());
  EXPECT_FALSE(ParseInteger("99999999999999999999").ok());
}

TEST(ConfigValuesTest, AddressesAreReadAndLoopbackIsKnown) {
  const struct {
    const char* text;
    const char* host;
    int port;
    bool is_loopback;
  } rows[] = {{"127.0.0.1:50051", "127.0.0.1", 50051, true},
              {"127.3.2.1:0", "127.3.2.1", 0, true},
              {"localhost:80", "localhost", 80, true},
              {"[::1]:65535", "::1", 65535, true},
              {"0.0.0.0:1", "0.0.0.0", 1, false},
              {"[::]:1", "::", 1, false},
              {"example.com:443", "example.com", 443, false},
              {"10.0.0.1:443", "10.0.0.1", 443, false}};
  for (const auto& row : rows) {
    const absl::StatusOr<HostPort> address = ParseHostPort(row.text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->host, row.host);
    EXPECT_EQ(address->port, row.port);
    EXPECT_EQ(IsLoopback(*address), row.is_loopback) << row.text;
  }
  for (const char* text :
       {"", ":1", "localhost", "localhost:", "localhost:x", "a:65536", "a:-1", "::1:50051"}) {
    EXPECT_FALSE(ParseHostPort(text).ok()) << text;
  }
}

TEST(ConfigValuesTest, NearestNameForgivesTypingErrorsOnly) {
  const std::vector<std::string> names = {"server.listen", "store.path", "engine.model"};
  EXPECT_EQ(NearestName("server.listn", names), "server.listen");
  EXPECT_EQ(NearestName("sever.listen", names), "server.listen");
  EXPECT_EQ(NearestName("engine.modle", names), "engine.model");
  EXPECT_EQ(NearestName("quantization", names), "");
  EXPECT_EQ(NearestName("", names), "");
}

}  // namespace
}  // namespace moelight
