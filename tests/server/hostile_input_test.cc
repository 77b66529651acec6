// Goal: whatever a client sends, it gets a typed error within a second and the daemon goes on.
#include <ctime>
#include <functional>
#include <limits>
#include <string>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <gtest/gtest.h>

#include "tests/server/daemon_fixture.h"

namespace moelight {
namespace {

class HostileInputTest : public DaemonTest {
 protected:
  // Sends raw bytes as the request of Generate, past the checks of the generated code.
  grpc::Status GenerateRaw(const std::string& bytes) {
    grpc::GenericStub stub(NewChannel());
    const std::unique_ptr<grpc::ClientContext> context = NewContext();
    grpc::CompletionQueue queue;
    const auto call =
        stub.PrepareCall(context.get(), "/moelight.v1.InferenceService/Generate", &queue);
    void* tag = nullptr;
    bool ok = false;
    const auto wait = [&]() { EXPECT_TRUE(queue.Next(&tag, &ok)); };
    call->StartCall(nullptr);
    wait();
    const grpc::Slice slice(bytes);
    call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
    wait();
    grpc::Status status;
    call->Finish(&status, nullptr);
    wait();
    return status;
  }

  void ExpectServing() {
    v1::TokenizeRequest request;
    request.mutable_prompt()->set_text("still there?");
    v1::TokenizeResponse response;
    const grpc::Status status = inference_->Tokenize(NewContext().get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
};

struct HostileCase {
  const char* name;
  grpc::StatusCode code;
  std::function<std::string()> bytes;  // of a GenerateRequest
};

class HostileRequestTest : public HostileInputTest,
                           public ::testing::WithParamInterface<HostileCase> {};

TEST_P(HostileRequestTest, GetsATypedErrorAndTheDaemonGoesOn) {
  StartDaemon();
  const std::string bytes = GetParam().bytes();
  const std::clock_t begin = std::clock();  // a busy machine is no fault
  const grpc::Status status = GenerateRaw(bytes);
  EXPECT_EQ(status.error_code(), GetParam().code) << status.error_message();
  EXPECT_LT(status.error_message().size(), 2000);
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 1);
  ExpectServing();
}

// A request that changes one thing of a good one.
std::string With(const std::function<void(v1::GenerateRequest&)>& change) {
  v1::GenerateRequest request;
  request.mutable_prompt()->set_text("x");
  change(request);
  return request.SerializeAsString();
}

std::string InvalidUtf8() {
  std::string bytes = With([](auto& request) { request.mutable_prompt()->set_text("abcd"); });
  bytes[bytes.find("abcd") + 1] = '\xff';
  return bytes;
}

INSTANTIATE_TEST_SUITE_P(
    Table, HostileRequestTest,
    ::testing::Values(
        HostileCase{"OversizeMessage", grpc::StatusCode::RESOURCE_EXHAUSTED,
                    []() {
                      return With([](auto& request) {
                        request.mutable_prompt()->set_text(std::string(5 << 20, 'x'));
                      });
                    }},
        HostileCase{"InvalidUtf8", grpc::StatusCode::INVALID_ARGUMENT, InvalidUtf8},
        HostileCase{"NotProtobuf", grpc::StatusCode::INVALID_ARGUMENT,
                    []() { return std::string(1000, '\xff'); }},
        HostileCase{"TruncatedProtobuf", grpc::StatusCode::INVALID_ARGUMENT,
                    []() { return With([](auto&) {}).substr(0, 3); }},
        HostileCase{"Empty", grpc::StatusCode::INVALID_ARGUMENT, []() { return std::string(); }},
        HostileCase{"NegativeToken", grpc::StatusCode::INVALID_ARGUMENT,
                    []() {
                      return With([](auto& request) {
                        request.mutable_prompt()->mutable_token_ids()->add_ids(-1);
                      });
                    }},
        HostileCase{"TokenBeyondVocabulary", grpc::StatusCode::INVALID_ARGUMENT,
                    []() {
                      return With([](auto& request) {
                        request.mutable_prompt()->mutable_token_ids()->add_ids(
                            std::numeric_limits<int32_t>::max());
                      });
                    }},
        HostileCase{"NanTemperature", grpc::StatusCode::INVALID_ARGUMENT,
                    []() {
                      return With([](auto& request) {
                        request.mutable_sampling()->set_temperature(
                            std::numeric_limits<float>::quiet_NaN());
                      });
                    }},
        HostileCase{"InfiniteBias", grpc::StatusCode::INVALID_ARGUMENT,
                    []() {
                      return With([](auto& request) {
                        (*request.mutable_sampling()->mutable_logit_bias())[1] =
                            std::numeric_limits<float>::infinity();
                      });
                    }},
        HostileCase{"TenThousandStops", grpc::StatusCode::INVALID_ARGUMENT,
                    []() {
                      return With([](auto& request) {
                        for (int i = 0; i < 10'000; ++i) {
                          request.mutable_sampling()->add_stop(absl::StrCat("stop", i));
                        }
                      });
                    }},
        HostileCase{"DeepJson", grpc::StatusCode::INVALID_ARGUMENT,
                    []() {
                      return With([](auto& request) {
                        v1::ChatPrompt& chat = *request.mutable_prompt()->mutable_chat();
                        chat.add_messages()->set_role("user");
                        chat.set_tools_json(std::string(3 << 20, '['));
                      });
                    }},
        HostileCase{"ManyMessages", grpc::StatusCode::INVALID_ARGUMENT,
                    []() {
                      return With([](auto& request) {
                        v1::ChatPrompt& chat = *request.mutable_prompt()->mutable_chat();
                        for (int i = 0; i < 100'000; ++i) chat.add_messages();
                      });
                    }}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(HostileInputTest, UnknownMethodIsUnimplemented) {
  StartDaemon();
  const grpc::Status status =
      CallRaw(NewChannel(), "/moelight.v1.InferenceService/None", "", *NewContext());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  ExpectServing();
}

TEST_F(HostileInputTest, AppendMessageThatCannotBeParsedIsNotTakenForTheEnd) {
  StartDaemon();
  const std::string job_id = CreateJob();
  v1::AppendBatchRequestsRequest message;
  message.set_job_id(job_id);
  *message.add_requests() = TextRow("", "good");
  const std::string good = message.SerializeAsString();
  message.set_first_row(1);
  message.mutable_requests(0)->mutable_prompt()->set_text("abcd");
  std::string bad = message.SerializeAsString();
  bad[bad.find("abcd") + 1] = '\xff';

  grpc::GenericStub stub(NewChannel());
  const std::unique_ptr<grpc::ClientContext> context = NewContext();
  grpc::CompletionQueue queue;
  void* tag = nullptr;
  bool ok = false;
  const auto call =
      stub.PrepareCall(context.get(), "/moelight.v1.BatchJobService/AppendBatchRequests", &queue);
  call->StartCall(nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok));
  for (const std::string& bytes : {good, bad}) {
    const grpc::Slice slice(bytes);
    call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
    ASSERT_TRUE(queue.Next(&tag, &ok));
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  EXPECT_EQ(Details(status).code(), status.error_code());
  EXPECT_LE(Get(job_id).num_rows(), 1);
}

TEST_F(HostileInputTest, OversizeAppendMessageEndsItsStreamOnly) {
  StartDaemon();
  const std::string job_id = CreateJob();
  v1::AppendBatchRequestsResponse appended;
  ASSERT_TRUE(Append(job_id, 0, {TextRow("", "a")}, &appended).ok());
  EXPECT_EQ(Append(job_id, 1, {TextRow("", std::string(5 << 20, 'x'))}, &appended).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Get(job_id).num_rows(), 1);
  // Larger than a row may be, smaller than a message: the row alone is refused.
  ASSERT_TRUE(
      Append(job_id, 1, {TextRow("big", std::string(2 << 20, 'x')), TextRow("", "b")}, &appended)
          .ok());
  EXPECT_EQ(appended.num_rows(), 3);
  EXPECT_EQ(appended.num_refused(), 1);
}

}  // namespace
}  // namespace moelight
