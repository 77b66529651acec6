// Goal: our .proto files keep the rules, and each rule is shown to find what it is for.
#include "tests/proto/proto_lint.h"

#include <fstream>
#include <string>
#include <vector>

#include <absl/strings/match.h>
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace moelight {
namespace {

using ::google::protobuf::DescriptorPool;
using ::google::protobuf::FileDescriptor;
using ::google::protobuf::FileDescriptorProto;
using ::google::protobuf::FileDescriptorSet;
using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::StartsWith;

TEST(ProtoLintTest, OurFilesKeepTheRules) {
  FileDescriptorSet set;
  std::ifstream stream(MOELIGHT_DESCRIPTOR_SET, std::ios::binary);
  ASSERT_TRUE(set.ParseFromIstream(&stream)) << MOELIGHT_DESCRIPTOR_SET;
  DescriptorPool pool;
  std::vector<const FileDescriptor*> ours;
  for (const FileDescriptorProto& proto : set.file()) {
    const FileDescriptor* file = pool.BuildFile(proto);
    ASSERT_NE(file, nullptr) << proto.name();
    if (!absl::StartsWith(proto.name(), "moelight/")) continue;  // google/ is not ours to change
    ours.push_back(file);
    EXPECT_THAT(LintFile(*file, proto), IsEmpty());
  }
  EXPECT_EQ(ours.size(), 4);
  EXPECT_THAT(LintModule(ours), IsEmpty());
}

// A file given as the text of its descriptor, on top of `base`, built in `pool`.
const FileDescriptor* Build(const std::string& base, const std::string& text, DescriptorPool& pool,
                            FileDescriptorProto* proto) {
  FileDescriptorProto changes;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(base, proto));
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &changes)) << text;
  proto->MergeFrom(changes);
  return pool.BuildFile(*proto);
}

constexpr char kBase[] = "name: 'a/v1/f.proto' package: 'a.v1' syntax: 'proto3'";

struct BadFile {
  const char* rule;
  const char* text;  // merged over kBase
};

class BadFileTest : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadFileTest, IsFoundByItsRule) {
  DescriptorPool pool;
  FileDescriptorProto other;
  ASSERT_NE(Build(kBase, "name: 'a/v1/other.proto' message_type { name: 'Other' }", pool, &other),
            nullptr);
  FileDescriptorProto proto;
  const FileDescriptor* file = Build(kBase, GetParam().text, pool, &proto);
  ASSERT_NE(file, nullptr);
  EXPECT_THAT(LintFile(*file, proto), Contains(StartsWith(std::string(GetParam().rule) + ":")));
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadFileTest,
    ::testing::Values(
        BadFile{"SYNTAX_SPECIFIED", "syntax: 'proto2'"}, BadFile{"PACKAGE_DEFINED", "package: ''"},
        BadFile{"PACKAGE_LOWER_SNAKE_CASE", "package: 'A.v1'"},
        BadFile{"PACKAGE_DIRECTORY_MATCH", "name: 'b/v1/f.proto'"},
        BadFile{"PACKAGE_VERSION_SUFFIX", "name: 'a/f.proto' package: 'a'"},
        BadFile{"FILE_LOWER_SNAKE_CASE", "name: 'a/v1/BadName.proto'"},
        BadFile{"IMPORT_NO_PUBLIC", "dependency: 'a/v1/other.proto' public_dependency: 0"},
        BadFile{"IMPORT_NO_WEAK", "dependency: 'a/v1/other.proto' weak_dependency: 0"},
        BadFile{"IMPORT_USED", "dependency: 'a/v1/other.proto'"},
        BadFile{"MESSAGE_PASCAL_CASE", "message_type { name: 'bad_name' }"},
        BadFile{"FIELD_LOWER_SNAKE_CASE",
                "message_type { name: 'M' field { name: 'badName' number: 1 label: LABEL_OPTIONAL "
                "type: TYPE_INT32 } }"},
        BadFile{"FIELD_NOT_REQUIRED",
                "syntax: 'proto2' message_type { name: 'M' field { name: 'x' number: 1 "
                "label: LABEL_REQUIRED type: TYPE_INT32 } }"},
        BadFile{"ONEOF_LOWER_SNAKE_CASE",
                "message_type { name: 'M' oneof_decl { name: 'badName' } field { name: 'x' "
                "number: 1 label: LABEL_OPTIONAL type: TYPE_INT32 oneof_index: 0 } }"},
        BadFile{"ENUM_PASCAL_CASE",
                "enum_type { name: 'bad_name' value { name: 'BAD_UNSPECIFIED' number: 0 } }"},
        BadFile{"ENUM_NO_ALLOW_ALIAS",
                "enum_type { name: 'E' options { allow_alias: true } "
                "value { name: 'E_UNSPECIFIED' number: 0 } value { name: 'E_B' number: 0 } }"},
        BadFile{"ENUM_FIRST_VALUE_ZERO",
                "syntax: 'proto2' enum_type { name: 'E' value { name: 'E_ONE' number: 1 } }"},
        BadFile{"ENUM_VALUE_UPPER_SNAKE_CASE",
                "enum_type { name: 'E' value { name: 'E_unspecified' number: 0 } }"},
        BadFile{"ENUM_VALUE_PREFIX",
                "enum_type { name: 'JobState' value { name: 'STATE_UNSPECIFIED' number: 0 } }"},
        BadFile{"ENUM_ZERO_VALUE_SUFFIX",
                "enum_type { name: 'E' value { name: 'E_NONE' number: 0 } }"},
        BadFile{"SERVICE_PASCAL_CASE", "service { name: 'bad_Service' }"},
        BadFile{"SERVICE_SUFFIX", "service { name: 'Jobs' }"},
        BadFile{"RPC_PASCAL_CASE",
                "message_type { name: 'M' } service { name: 'JobService' "
                "method { name: 'get' input_type: '.a.v1.M' output_type: '.a.v1.M' } }"},
        BadFile{"RPC_REQUEST_STANDARD_NAME",
                "message_type { name: 'M' } service { name: 'JobService' "
                "method { name: 'Get' input_type: '.a.v1.M' output_type: '.a.v1.M' } }"},
        BadFile{"RPC_RESPONSE_STANDARD_NAME",
                "message_type { name: 'M' } service { name: 'JobService' "
                "method { name: 'Get' input_type: '.a.v1.M' output_type: '.a.v1.M' } }"},
        BadFile{"COMMENTS", "message_type { name: 'M' }"}),
    [](const auto& info) { return std::string(info.param.rule); });

TEST(ProtoLintTest, RulesOverSeveralFilesFindTheirs) {
  DescriptorPool pool;
  FileDescriptorProto first, second, third;
  const std::vector<const FileDescriptor*> files = {
      Build(kBase,
            "message_type { name: 'M' } message_type { name: 'N' } service { name: 'JobService' "
            "method { name: 'Get' input_type: '.a.v1.M' output_type: '.a.v1.N' } "
            "method { name: 'Put' input_type: '.a.v1.M' output_type: '.a.v1.N' } }",
            pool, &first),
      Build(kBase, "name: 'a/v1/g.proto' package: 'b.v1'", pool, &second),
      Build(kBase, "name: 'c/v1/h.proto' package: 'b.v1'", pool, &third)};
  const std::vector<std::string> violations = LintModule(files);
  EXPECT_THAT(violations, Contains(StartsWith("RPC_REQUEST_RESPONSE_UNIQUE: a.v1.JobService.Put")));
  EXPECT_THAT(violations, Contains(StartsWith("DIRECTORY_SAME_PACKAGE: a/v1/g.proto")));
  EXPECT_THAT(violations, Contains(StartsWith("PACKAGE_SAME_DIRECTORY: c/v1/h.proto")));
}

}  // namespace
}  // namespace moelight
