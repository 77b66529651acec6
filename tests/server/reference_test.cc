// Goal: server/REFERENCE.md is what the code has: every call, error, metric and configuration key.
//
// The text is made here. When it differs from the file, the test leaves it beside and says where.
#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/strip.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include "server/config_keys.h"
#include "server/convert.h"
#include "server/metrics.h"

namespace moelight {
namespace {

using ::google::protobuf::DescriptorPool;
using ::google::protobuf::FileDescriptor;
using ::google::protobuf::FileDescriptorProto;
using ::google::protobuf::FileDescriptorSet;
using ::google::protobuf::MethodDescriptor;
using ::google::protobuf::ServiceDescriptor;
using ::google::protobuf::SourceLocation;

const char kFile[] = MOELIGHT_SOURCE_DIR "/server/REFERENCE.md";

constexpr char kHead[] =
    "# Reference\n"
    "\n"
    "Every call, error, metric and configuration key, as the code has them; `reference_test` holds "
    "this file to it.\n"
    "\n";

std::string Code(absl::string_view text) { return absl::StrCat("`", text, "`"); }

std::string TableRow(const std::vector<std::string>& cells) {
  return absl::StrCat("| ", absl::StrJoin(cells, " | "), " |\n");
}

std::string TableHead(const std::vector<std::string>& titles) {
  return TableRow(titles) + TableRow(std::vector<std::string>(titles.size(), "---"));
}

// A comment of a .proto file, in its lines.
template <typename Described>
std::string Comment(const Described& described) {
  SourceLocation location;
  EXPECT_TRUE(described.GetSourceLocation(&location)) << described.full_name();
  std::string text = location.leading_comments;
  absl::StripAsciiWhitespace(&text);
  return absl::StrReplaceAll(text, {{"\n ", "\n"}});
}

// In one line, for a cell of a table.
std::string CommentLine(const MethodDescriptor& method) {
  return absl::StrReplaceAll(Comment(method), {{"\n", " "}, {"|", "\\|"}});
}

std::string Kind(const MethodDescriptor& method) {
  if (method.client_streaming() && method.server_streaming()) return "streams both ways";
  if (method.client_streaming()) return "stream of requests";
  return method.server_streaming() ? "stream of answers" : "unary";
}

std::string Calls(const ServiceDescriptor& service) {
  std::string text = absl::StrCat("### ", service.full_name(), "\n\n", Comment(service), "\n\n",
                                  TableHead({"method", "kind", "what it does"}));
  for (int i = 0; i < service.method_count(); ++i) {
    const MethodDescriptor& method = *service.method(i);
    absl::StrAppend(&text, TableRow({Code(method.name()), Kind(method), CommentLine(method)}));
  }
  return text + "\n";
}

std::string AllCalls() {
  FileDescriptorSet set;
  std::ifstream stream(MOELIGHT_DESCRIPTOR_SET, std::ios::binary);
  EXPECT_TRUE(set.ParseFromIstream(&stream)) << MOELIGHT_DESCRIPTOR_SET;
  std::string text =
      "## Calls\n"
      "\n"
      "The messages are described in [proto](../proto/README.md). Besides these the daemon has "
      "gRPC's own health (`grpc.health.v1`) and\n"
      "reflection services.\n"
      "\n";
  DescriptorPool pool;
  for (const FileDescriptorProto& proto : set.file()) {
    const FileDescriptor* file = pool.BuildFile(proto);
    if (file == nullptr) {
      ADD_FAILURE() << proto.name();
      continue;
    }
    for (int i = 0; i < file->service_count(); ++i) text += Calls(*file->service(i));
  }
  return text;
}

std::string Errors() {
  std::string text = absl::StrCat(
      "## Errors\n"
      "\n"
      "A call that fails, and a row without an answer, has a `google.rpc.Status` with one of these "
      "codes and an ErrorInfo of\n"
      "domain `moelight` with its reason. Reasons are never renamed.\n"
      "\n",
      TableHead({"code", "reason", "meaning"}));
  for (const ErrorReason& row : ErrorReasons()) {
    absl::StrAppend(
        &text, TableRow({Code(absl::StatusCodeToString(row.code)), Code(row.reason), row.meaning}));
  }
  return text + "\n";
}

std::string KindName(MetricKind kind) {
  switch (kind) {
    case MetricKind::kCounter:
      return "counter";
    case MetricKind::kGauge:
      return "gauge";
    case MetricKind::kHistogram:
      return "histogram";
  }
  return "";
}

std::string AllMetrics() {
  std::string text = absl::StrCat(
      "## Metrics\n"
      "\n"
      "On `metrics.listen` under `/metrics`. Seconds, bytes and ratios throughout.\n"
      "\n",
      TableHead({"name", "kind", "labels", "meaning"}));
  for (const MetricRow& metric : Metrics::Rows()) {
    std::vector<std::string> labels;
    for (const char* label : metric.labels) labels.push_back(Code(label));
    absl::StrAppend(&text, TableRow({Code(metric.name), KindName(metric.kind),
                                     labels.empty() ? "–" : absl::StrJoin(labels, ", "),
                                     std::string(absl::StripSuffix(metric.help, "."))}));
  }
  return text + "\n";
}

std::string Keys() {
  std::string text = absl::StrCat(
      "## Configuration\n"
      "\n"
      "[config.yaml](../config.yaml) says more about each key. An empty default is `\"\"`.\n"
      "\n",
      TableHead({"key", "default", "values", "meaning"}));
  const Config defaults;
  for (const ConfigKey& key : ConfigKeys()) {
    const std::string value = FormatConfigValue(key, defaults);
    const std::string range = DescribeRange(key);
    absl::StrAppend(&text, TableRow({Code(key.path), Code(value.empty() ? "\"\"" : value),
                                     range.empty() ? "–" : range, std::string(key.doc)}));
  }
  return text;
}

TEST(ReferenceTest, IsWhatTheCodeHas) {
  const std::string expected = absl::StrCat(kHead, AllCalls(), Errors(), AllMetrics(), Keys());
  std::ifstream stream(kFile);
  std::ostringstream found;
  found << stream.rdbuf();
  if (found.str() == expected) return;
  const std::string fresh = testing::TempDir() + "REFERENCE.md";
  std::ofstream(fresh) << expected;
  ADD_FAILURE() << kFile << " is not what the code has; read and copy: cp " << fresh << " "
                << kFile;
}

TEST(ReferenceTest, EveryErrorHasOneReason) {
  std::vector<std::string> reasons;
  for (const ErrorReason& row : ErrorReasons()) {
    EXPECT_EQ(std::count(reasons.begin(), reasons.end(), row.reason), 0) << row.reason;
    reasons.push_back(row.reason);
    EXPECT_STRNE(row.meaning, "");
  }
}

}  // namespace
}  // namespace moelight
