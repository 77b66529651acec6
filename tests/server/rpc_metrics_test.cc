// Goal: every call is counted once with what the client was told, timed, and seen while it is open;
// what a client makes up never names a series.
#include "server/rpc_metrics.h"

#include <string>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <grpcpp/support/byte_buffer.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include "tests/server/daemon_fixture.h"

namespace moelight {
namespace {

TEST(RpcMethodLabelTest, OnlyMethodsOfThisProgramHaveAName) {
  EXPECT_EQ(RpcMethodLabel("/moelight.v1.BatchJobService/GetBatchJob"),
            "BatchJobService/GetBatchJob");
  EXPECT_EQ(RpcMethodLabel("/grpc.health.v1.Health/Check"), "Health/Check");
  EXPECT_EQ(RpcMethodLabel("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
            "ServerReflection/ServerReflectionInfo");
  for (const char* path :
       {"", "/", "unknown", "/moelight.v1.BatchJobService/Dance", "/x.Y/GetBatchJob",
        "/moelight.v1/BatchJobService/GetBatchJob", "/moelight.v1.BatchJobService.GetBatchJob",
        "/moelight.v1.BatchJobService/", "/grpc.health.v1.Health/List"}) {
    EXPECT_EQ(RpcMethodLabel(path), "other") << path;
  }
}

class RpcMetricsTest : public DaemonTest {
 protected:
  // Value of the series with this name and these labels; -1: there is none.
  double Value(const std::string& series) {
    const std::string text = prometheus::TextSerializer().Serialize(daemon().metrics().Collect());
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      if (absl::StartsWith(line, series + " "))
        return std::stod(std::string(line.substr(series.size())));
    }
    return -1;
  }
  double Calls(const std::string& method, const std::string& code) {
    return Value(
        absl::StrCat("moelight_rpc_calls_total{code=\"", code, "\",method=\"", method, "\"}"));
  }
  double InFlight(const std::string& method) {
    return Value(absl::StrCat("moelight_rpc_in_flight{method=\"", method, "\"}"));
  }
};

TEST_F(RpcMetricsTest, CallsAreCountedByMethodAndCode) {
  StartDaemon();
  Get(CreateJob());
  v1::GetBatchJobRequest request;
  request.set_job_id("job-0000000000000000");
  v1::GetBatchJobResponse response;
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(jobs_->GetBatchJob(NewContext().get(), request, &response).error_code(),
              grpc::StatusCode::NOT_FOUND);
  }
  EXPECT_EQ(Calls("BatchJobService/CreateBatchJob", "OK"), 1);
  EXPECT_EQ(Calls("BatchJobService/GetBatchJob", "OK"), 1);
  EXPECT_EQ(Calls("BatchJobService/GetBatchJob", "NOT_FOUND"), 2);
  EXPECT_EQ(Value("moelight_rpc_seconds_count{method=\"BatchJobService/GetBatchJob\"}"), 3);
  EXPECT_TRUE(Eventually([this]() { return InFlight("BatchJobService/GetBatchJob") == 0; }));
}

TEST_F(RpcMetricsTest, TheCodeIsWhatTheClientWasTold) {
  StartDaemon();
  // Without the parse guard it would be UNIMPLEMENTED.
  EXPECT_EQ(
      CallRaw(NewChannel(), "/moelight.v1.BatchJobService/GetBatchJob", "\xff\xff", *NewContext())
          .error_code(),
      grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Calls("BatchJobService/GetBatchJob", "INVALID_ARGUMENT"), 1);
  EXPECT_EQ(Calls("BatchJobService/GetBatchJob", "UNIMPLEMENTED"), -1);
}

TEST_F(RpcMetricsTest, UnknownMethodsShareOneSeries) {
  StartDaemon();
  for (const char* path : {"/moelight.v1.BatchJobService/Dance", "/a.B/C", "/moelight\"}.X/Y"}) {
    EXPECT_EQ(CallRaw(NewChannel(), path, "", *NewContext()).error_code(),
              grpc::StatusCode::UNIMPLEMENTED)
        << path;
  }
  EXPECT_EQ(Calls("other", "UNIMPLEMENTED"), 3);
}

TEST_F(RpcMetricsTest, HealthIsCountedToo) {
  StartDaemon();
  EXPECT_TRUE(CallRaw(NewChannel(), "/grpc.health.v1.Health/Check", "", *NewContext()).ok());
  EXPECT_EQ(Calls("Health/Check", "OK"), 1);
}

TEST_F(RpcMetricsTest, AStreamIsInFlightUntilItEnds) {
  StartDaemon();
  const std::string method = "BatchJobService/WatchBatchJob";
  v1::WatchBatchJobRequest request;
  request.set_job_id(CreateJob());
  const std::unique_ptr<grpc::ClientContext> context = NewContext();
  const auto stream = jobs_->WatchBatchJob(context.get(), request);
  v1::WatchBatchJobResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(InFlight(method), 1);
  EXPECT_EQ(Value(absl::StrCat("moelight_rpc_seconds_count{method=\"", method, "\"}")), -1);
  context->TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&]() { return InFlight(method) == 0; }));
  EXPECT_EQ(Calls(method, "CANCELLED"), 1);
  EXPECT_EQ(Value(absl::StrCat("moelight_rpc_seconds_count{method=\"", method, "\"}")), 1);
}

}  // namespace
}  // namespace moelight
