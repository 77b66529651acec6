// Goal: keys find their tenants, and every mistake in the file is told with its line.
#include "server/tenants.h"

#include <string>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moelight {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(TenantsTest, AKeyIsFoundByItsHash) {
  const auto alice = MakeKey();
  const auto bob = MakeKey();
  ASSERT_TRUE(alice.ok() && bob.ok());
  EXPECT_NE(alice->key, bob->key);
  EXPECT_THAT(alice->key, StartsWith("ml_"));
  const auto tenants = Tenants::Parse(
      absl::StrCat("tenants:\n"
                   "  - name: alice\n"
                   "    admin: true\n"
                   "    keys: [",
                   alice->hash,
                   "]\n"
                   "    quota: {queued_rows: 5, queued_tokens: 6, stored_bytes: 2MiB, streams: 7}\n"
                   "  - {name: bob, keys: [\"",
                   bob->hash, "\"]}\n"),
      "t.yaml");
  ASSERT_TRUE(tenants.ok()) << tenants.status();
  EXPECT_EQ(tenants->num_keys(), 2);
  const Tenant* found = tenants->Find(alice->key);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->name, "alice");
  EXPECT_TRUE(found->is_admin);
  EXPECT_EQ(found->quota.queued_rows, 5);
  EXPECT_EQ(found->quota.queued_tokens, 6);
  EXPECT_EQ(found->quota.stored_bytes, 2 << 20);
  EXPECT_EQ(found->max_streams, 7);
  ASSERT_NE(tenants->Find(bob->key), nullptr);
  EXPECT_FALSE(tenants->Find(bob->key)->is_admin);
  const std::string almost = alice->key.substr(0, alice->key.size() - 1);
  for (const std::string& wrong :
       {std::string(), almost, alice->hash, alice->key + " ", std::string(1000, 'x')}) {
    EXPECT_EQ(tenants->Find(wrong), nullptr) << wrong;
  }
}

// sha256("abc") from FIPS 180-4, appendix B.1 of its first edition.
TEST(TenantsTest, TheHashIsSha256) {
  const auto tenants = Tenants::Parse(
      "tenants: [{name: a, keys: [sha256:"
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad]}]",
      "t.yaml");
  ASSERT_TRUE(tenants.ok()) << tenants.status();
  EXPECT_NE(tenants->Find("abc"), nullptr);
}

TEST(TenantsTest, MistakesAreToldWithTheirLine) {
  const std::string hash = "sha256:" + std::string(64, 'a');
  const struct {
    std::string text;
    const char* error;
  } cases[] = {
      {"", "t.yaml:"},
      {"tenants: []", "t.yaml:1: tenants: must be a list of 1 to 10000"},
      {"tenants: [", "t.yaml:"},
      {"users: []", "t.yaml:1: the file: unknown key \"users\""},
      {"tenants:\n  - {keys: []}", "t.yaml:2: name: must have 1 to 64 bytes"},
      {"tenants:\n  - {name: a}", "t.yaml:2: keys: must be a list"},
      {"tenants:\n  - {name: a, keys: [secret]}", "t.yaml:2: keys: must be sha256:"},
      {"tenants:\n  - {name: a, keys: [{}]}", "t.yaml:2: keys: must be sha256:"},
      {"tenants:\n  - {name: a, key: []}", "t.yaml:2: tenant: unknown key \"key\""},
      {"tenants:\n  - {name: a, keys: [], admin: yes}", "admin: must be true or false"},
      {"tenants:\n  - {name: a, keys: []}\n  - {name: a, keys: []}",
       "t.yaml:3: name: \"a\" stands there twice"},
      {absl::StrCat("tenants:\n  - {name: a, keys: [", hash, "]}\n  - {name: b, keys: [", hash,
                    "]}"),
       "t.yaml:3: keys: this key stands there twice"},
      {"tenants: [{name: a, keys: [], quota: {rows: 1}}]", "quota: unknown key \"rows\""},
      {"tenants: [{name: a, keys: [], quota: {streams: -1}}]", "quota.streams: "},
      {"tenants: [{name: a, keys: [], quota: {stored_bytes: much}}]", "quota.stored_bytes: "},
  };
  for (const auto& c : cases) {
    const auto tenants = Tenants::Parse(c.text, "t.yaml");
    EXPECT_EQ(tenants.status().code(), absl::StatusCode::kInvalidArgument) << c.text;
    EXPECT_THAT(tenants.status().message(), HasSubstr(c.error)) << c.text;
  }
}

}  // namespace
}  // namespace moelight
