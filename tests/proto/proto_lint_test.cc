// Goal: our .proto files keep the rules, and each rule is shown to find what it is for.
#include "tests/proto/proto_lint.h"

#include <fstream>
#include <string>
#include <vector>

#include <absl/strings/match.h>
#include <gmock/gmock.h>
#include <google/protobuf/compiler/parser.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
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

// A file in source form, parsed into `pool`.
const FileDescriptor* Parse(const std::string& name, const std::string& source,
                            DescriptorPool& pool, FileDescriptorProto* proto) {
  google::protobuf::io::ArrayInputStream input(source.data(), source.size());
  google::protobuf::io::Tokenizer tokenizer(&input, nullptr);
  google::protobuf::compiler::Parser parser;
  EXPECT_TRUE(parser.Parse(&tokenizer, proto)) << source;
  proto->set_name(name);
  return pool.BuildFile(*proto);
}

struct BadFile {
  const char* rule;
  const char* file;
  const char* source;
};

class BadFileTest : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadFileTest, IsFoundByItsRule) {
  DescriptorPool pool;
  FileDescriptorProto other;
  ASSERT_NE(Parse("a/v1/other.proto", "syntax = \"proto3\"; package a.v1; message Other {}", pool,
                  &other),
            nullptr);
  FileDescriptorProto proto;
  const FileDescriptor* file = Parse(GetParam().file, GetParam().source, pool, &proto);
  ASSERT_NE(file, nullptr);
  EXPECT_THAT(LintFile(*file, proto), Contains(StartsWith(std::string(GetParam().rule) + ":")));
}

#define HEAD "syntax = \"proto3\"; package a.v1; "
INSTANTIATE_TEST_SUITE_P(
    Table, BadFileTest,
    ::testing::Values(
        BadFile{"SYNTAX_SPECIFIED", "a/v1/f.proto", "syntax = \"proto2\"; package a.v1;"},
        BadFile{"PACKAGE_DEFINED", "f.proto", "syntax = \"proto3\";"},
        BadFile{"PACKAGE_LOWER_SNAKE_CASE", "A/v1/f.proto", "syntax = \"proto3\"; package A.v1;"},
        BadFile{"PACKAGE_DIRECTORY_MATCH", "b/v1/f.proto", HEAD},
        BadFile{"PACKAGE_VERSION_SUFFIX", "a/f.proto", "syntax = \"proto3\"; package a;"},
        BadFile{"FILE_LOWER_SNAKE_CASE", "a/v1/BadName.proto", HEAD},
        BadFile{"IMPORT_NO_PUBLIC", "a/v1/f.proto",
                HEAD "import public \"a/v1/other.proto\"; message M { Other o = 1; }"},
        BadFile{"IMPORT_USED", "a/v1/f.proto", HEAD "import \"a/v1/other.proto\";"},
        BadFile{"MESSAGE_PASCAL_CASE", "a/v1/f.proto", HEAD "message bad_name {}"},
        BadFile{"FIELD_LOWER_SNAKE_CASE", "a/v1/f.proto", HEAD "message M { int32 badName = 1; }"},
        BadFile{"FIELD_NOT_REQUIRED", "a/v1/f.proto",
                "syntax = \"proto2\"; package a.v1; message M { required int32 x = 1; }"},
        BadFile{"ONEOF_LOWER_SNAKE_CASE", "a/v1/f.proto",
                HEAD "message M { oneof badName { int32 x = 1; } }"},
        BadFile{"ENUM_PASCAL_CASE", "a/v1/f.proto", HEAD "enum bad_name { BAD_UNSPECIFIED = 0; }"},
        BadFile{"ENUM_NO_ALLOW_ALIAS", "a/v1/f.proto",
                HEAD "enum E { option allow_alias = true; E_UNSPECIFIED = 0; E_B = 0; }"},
        BadFile{"ENUM_FIRST_VALUE_ZERO", "a/v1/f.proto",
                "syntax = \"proto2\"; package a.v1; enum E { E_ONE = 1; }"},
        BadFile{"ENUM_VALUE_UPPER_SNAKE_CASE", "a/v1/f.proto",
                HEAD "enum E { E_unspecified = 0; }"},
        BadFile{"ENUM_VALUE_PREFIX", "a/v1/f.proto", HEAD "enum State { UNSPECIFIED = 0; }"},
        BadFile{"ENUM_ZERO_VALUE_SUFFIX", "a/v1/f.proto", HEAD "enum E { E_NONE = 0; }"},
        BadFile{"SERVICE_PASCAL_CASE", "a/v1/f.proto", HEAD "service bad_Service {}"},
        BadFile{"SERVICE_SUFFIX", "a/v1/f.proto", HEAD "service Jobs {}"},
        BadFile{"RPC_PASCAL_CASE", "a/v1/f.proto",
                HEAD "message M {} service JobService { rpc get(M) returns (M); }"},
        BadFile{"RPC_REQUEST_STANDARD_NAME", "a/v1/f.proto",
                HEAD "message M {} service JobService { rpc Get(M) returns (M); }"},
        BadFile{"RPC_RESPONSE_STANDARD_NAME", "a/v1/f.proto",
                HEAD "message M {} service JobService { rpc Get(M) returns (M); }"},
        BadFile{"COMMENTS", "a/v1/f.proto", HEAD "message M {}"}),
    [](const auto& info) { return std::string(info.param.rule); });
#undef HEAD

TEST(ProtoLintTest, RulesOverSeveralFilesFindTheirs) {
  DescriptorPool pool;
  FileDescriptorProto first, second, third;
  const std::vector<const FileDescriptor*> files = {
      Parse("a/v1/f.proto",
            "syntax = \"proto3\"; package a.v1; message M {} message N {} "
            "service JobService { rpc Get(M) returns (N); rpc Put(M) returns (N); }",
            pool, &first),
      Parse("a/v1/g.proto", "syntax = \"proto3\"; package b.v1;", pool, &second),
      Parse("c/v1/h.proto", "syntax = \"proto3\"; package b.v1;", pool, &third)};
  const std::vector<std::string> violations = LintModule(files);
  EXPECT_THAT(violations, Contains(StartsWith("RPC_REQUEST_RESPONSE_UNIQUE: a.v1.JobService.Put")));
  EXPECT_THAT(violations, Contains(StartsWith("DIRECTORY_SAME_PACKAGE: a/v1/g.proto")));
  EXPECT_THAT(violations, Contains(StartsWith("PACKAGE_SAME_DIRECTORY: c/v1/h.proto")));
}

}  // namespace
}  // namespace moelight
