#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/daemon_fixture.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

class InferenceServiceTest : public DaemonTest {
 protected:
  // Reads a whole answer: the deltas' text and the last message.
  grpc::Status Generate(const v1::GenerateRequest& request, std::string* text,
                        v1::GenerateResponse::Finished* finished) {
    const std::unique_ptr<grpc::ClientContext> context = NewContext();
    const auto reader = inference_->Generate(context.get(), request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      EXPECT_FALSE(finished->choices_size() > 0) << "nothing may follow the end";
      if (response.has_delta()) *text += response.delta().text();
      if (response.has_finished()) *finished = response.finished();
    }
    return reader->Finish();
  }
};

v1::GenerateRequest TextRequest(const std::string& text) {
  v1::GenerateRequest request;
  request.mutable_prompt()->set_text(text);
  return request;
}

TEST_F(InferenceServiceTest, AnswerIsStreamedAndRepeatedWhole) {
  StartDaemon();
  std::string text;
  v1::GenerateResponse::Finished finished;
  const grpc::Status status = Generate(TextRequest("hello"), &text, &finished);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(text, "echo: hello");
  ASSERT_EQ(finished.choices_size(), 1);
  EXPECT_EQ(finished.choices(0).text(), text);
  EXPECT_EQ(finished.usage().prompt_tokens(), 5);
}

TEST_F(InferenceServiceTest, ErrorsOfRequestAndEngineReachTheClient) {
  StartDaemon();
  const struct {
    const char* prompt;
    grpc::StatusCode code;
  } rows[] = {{"", grpc::StatusCode::INVALID_ARGUMENT},
              {"reject: x", grpc::StatusCode::INVALID_ARGUMENT},
              {"fail: x", grpc::StatusCode::INTERNAL}};
  for (const auto& row : rows) {
    std::string text;
    v1::GenerateResponse::Finished finished;
    const grpc::Status status = Generate(TextRequest(row.prompt), &text, &finished);
    EXPECT_EQ(status.error_code(), row.code) << row.prompt;
    EXPECT_EQ(Details(status).code(), row.code);
  }
}

TEST_F(InferenceServiceTest, CancelledCallStopsTheEngine) {
  StartDaemon();
  const std::unique_ptr<grpc::ClientContext> context = NewContext();
  const auto reader = inference_->Generate(context.get(), TextRequest("hang: on"));
  ASSERT_TRUE(Eventually([&]() { return engine().Stats().num_running == 1; }));
  context->TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&]() { return engine().num_cancelled() == 1; }));
  EXPECT_TRUE(Eventually([&]() { return engine().Stats().num_running == 0; }));
}

TEST_F(InferenceServiceTest, FullEngineQueueIsResourceExhausted) {
  engine_options().max_queued_requests = 1;
  StartDaemon();
  engine().SetPaused(true);
  const std::unique_ptr<grpc::ClientContext> context = NewContext();
  const auto waiting = inference_->Generate(context.get(), TextRequest("first"));
  ASSERT_TRUE(Eventually([&]() { return engine().Stats().num_queued == 1; }));
  std::string text;
  v1::GenerateResponse::Finished finished;
  const grpc::Status status = Generate(TextRequest("second"), &text, &finished);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  engine().SetPaused(false);
  v1::GenerateResponse response;
  EXPECT_TRUE(waiting->Read(&response));
  while (waiting->Read(&response)) {
  }
  EXPECT_TRUE(waiting->Finish().ok());
}

TEST_F(InferenceServiceTest, OutputBeyondTheStreamBufferIsCutOff) {
  config().rpc_limits.stream_buffer = 64 << 10;
  StartDaemon();
  std::string text;
  v1::GenerateResponse::Finished finished;
  const grpc::Status status = Generate(TextRequest(std::string(100'000, 'x')), &text, &finished);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(Details(status).DebugString(), HasSubstr("server.limits.stream_buffer"));
  text.clear();
  EXPECT_TRUE(Generate(TextRequest("short"), &text, &finished).ok());
}

TEST_F(InferenceServiceTest, TokenizeGivesIdsTokensAndText) {
  StartDaemon();
  v1::TokenizeRequest request;
  request.mutable_prompt()->set_text("ab");
  v1::TokenizeResponse response;
  ASSERT_TRUE(inference_->Tokenize(NewContext().get(), request, &response).ok());
  EXPECT_EQ(response.token_ids_size(), 2);
  EXPECT_EQ(response.tokens_size(), 2);
  EXPECT_EQ(response.text(), "ab");
  request.mutable_prompt()->mutable_token_ids()->add_ids(256);
  EXPECT_EQ(inference_->Tokenize(NewContext().get(), request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(InferenceServiceTest, WhileLoadingEverythingIsUnavailable) {
  StartDaemon(/*load_model=*/false);
  std::string text;
  v1::GenerateResponse::Finished finished;
  EXPECT_EQ(Generate(TextRequest("x"), &text, &finished).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  v1::TokenizeRequest request;
  request.mutable_prompt()->set_text("ab");
  v1::TokenizeResponse response;
  EXPECT_EQ(inference_->Tokenize(NewContext().get(), request, &response).error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace moelight
