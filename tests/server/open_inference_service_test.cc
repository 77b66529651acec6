// Goal: the Open Inference Protocol on a whole daemon: raw and typed tensors give the same answers,
// every parameter reaches the engine, every bad tensor is named, and a call that ends early stops
// its work.
#include "server/open_inference_service.h"

#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <gmock/gmock.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "tests/server/daemon_fixture.h"

namespace moelight {
namespace {

using inference::ModelInferRequest;
using inference::ModelInferResponse;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// One element of a raw BYTES tensor.
std::string Raw(const std::string& text) {
  const uint32_t size = text.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof(size)) + text;
}

ModelInferRequest TypedRequest(const std::vector<std::string>& prompts) {
  ModelInferRequest request;
  request.set_model_name("fake");
  request.set_id("id-1");
  ModelInferRequest::InferInputTensor& tensor = *request.add_inputs();
  tensor.set_name("text_input");
  tensor.set_datatype("BYTES");
  tensor.add_shape(prompts.size());
  for (const std::string& prompt : prompts) tensor.mutable_contents()->add_bytes_contents(prompt);
  return request;
}

ModelInferRequest RawRequest(const std::vector<std::string>& prompts) {
  ModelInferRequest request = TypedRequest(prompts);
  request.mutable_inputs(0)->clear_contents();
  std::string& raw = *request.add_raw_input_contents();
  for (const std::string& prompt : prompts) raw += Raw(prompt);
  return request;
}

class OpenInferenceServiceTest : public DaemonTest {
 protected:
  void Start(bool load_model = true) {
    StartDaemon(load_model);
    stub_ = inference::GRPCInferenceService::NewStub(NewChannel());
  }
  grpc::Status Infer(const ModelInferRequest& request, ModelInferResponse* response) {
    return stub_->ModelInfer(NewContext().get(), request, response);
  }

  std::unique_ptr<inference::GRPCInferenceService::Stub> stub_;
};

TEST_F(OpenInferenceServiceTest, TypedTensorsAreAnsweredTyped) {
  Start();
  ModelInferResponse response;
  const grpc::Status status = Infer(TypedRequest({"one", "three"}), &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.model_name(), "fake");
  EXPECT_EQ(response.model_version(), "1");
  EXPECT_EQ(response.id(), "id-1");
  EXPECT_THAT(response.raw_output_contents(), IsEmpty());
  ASSERT_EQ(response.outputs_size(), 4);
  EXPECT_EQ(response.outputs(0).name(), "text_output");
  EXPECT_EQ(response.outputs(0).datatype(), "BYTES");
  EXPECT_THAT(response.outputs(0).shape(), ElementsAre(2));
  EXPECT_THAT(response.outputs(0).contents().bytes_contents(),
              ElementsAre("echo: one", "echo: three"));
  EXPECT_THAT(response.outputs(1).contents().bytes_contents(), ElementsAre("stop", "stop"));
  EXPECT_EQ(response.outputs(2).name(), "num_input_tokens");
  EXPECT_THAT(response.outputs(2).contents().uint_contents(), ElementsAre(3, 5));
}

TEST_F(OpenInferenceServiceTest, RawTensorsAreAnsweredRaw) {
  Start();
  ModelInferRequest request = RawRequest({"one", "a\nb"});
  request.mutable_inputs(0)->add_shape(1);  // [2, 1]
  request.add_outputs()->set_name("num_input_tokens");
  request.add_outputs()->set_name("text_output");
  ModelInferResponse response;
  const grpc::Status status = Infer(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.outputs_size(), 2);
  EXPECT_EQ(response.outputs(1).name(), "text_output");
  EXPECT_FALSE(response.outputs(1).has_contents());
  EXPECT_THAT(response.outputs(1).shape(), ElementsAre(2, 1));
  EXPECT_THAT(response.raw_output_contents(), ElementsAre(std::string("\3\0\0\0\3\0\0\0", 8),
                                                          Raw("echo: one") + Raw("echo: a\nb")));
}

TEST_F(OpenInferenceServiceTest, ParametersReachTheEngine) {
  Start();
  ModelInferRequest request = TypedRequest({"x"});
  auto& parameters = *request.mutable_parameters();
  parameters["max_tokens"].set_int64_param(7);
  parameters["temperature"].set_double_param(0.5);
  parameters["top_p"].set_string_param("0.25");
  parameters["seed"].set_uint64_param(1ull << 63);
  parameters["ignore_eos"].set_bool_param(true);
  ModelInferRequest::InferInputTensor& json = *request.add_inputs();
  json.set_name("sampling_parameters");
  json.set_datatype("BYTES");
  json.add_shape(1);
  json.mutable_contents()->add_bytes_contents(
      R"({"top_k": "4", "stop": "a", "stop_token_ids": [1, 2], "logit_bias": {"9": -1.5},
          "min_tokens": null})");
  ModelInferResponse response;
  const grpc::Status status = Infer(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_THAT(engine().submitted_sampling(), SizeIs(1));
  const SamplingParams sampling = engine().submitted_sampling()[0];
  EXPECT_EQ(sampling.max_tokens, 7);
  EXPECT_EQ(sampling.temperature, 0.5f);
  EXPECT_EQ(sampling.top_p, 0.25f);
  EXPECT_EQ(sampling.seed, 1ull << 63);
  EXPECT_TRUE(sampling.ignore_eos);
  EXPECT_EQ(sampling.top_k, 4);
  EXPECT_THAT(sampling.stop, ElementsAre("a"));
  EXPECT_THAT(sampling.stop_token_ids, ElementsAre(1, 2));
  EXPECT_THAT(sampling.logit_bias, ElementsAre(std::pair(9, -1.5f)));
  EXPECT_FALSE(sampling.min_tokens.has_value());
  EXPECT_EQ(engine().submitted_groups()[0].priority, kInteractivePriority);
}

struct BadRequestRow {
  const char* change;  // text of a ModelInferRequest, merged over one good prompt
  const char* error;
  grpc::StatusCode code = grpc::StatusCode::INVALID_ARGUMENT;
};

// A second text_input is what most changes cannot do without, so `inputs` here replace the first.
constexpr BadRequestRow kBadRequests[] = {
    {"model_name: 'other'", "model \"other\" is not served here", grpc::StatusCode::NOT_FOUND},
    {"model_version: '2'", "has no version \"2\"", grpc::StatusCode::NOT_FOUND},
    {"inputs { name: 'stream' datatype: 'BOOL' shape: 1 contents { bool_contents: false } }",
     "inputs: tensor \"text_input\" is missing"},
    {"inputs { name: 'image' }", "inputs[0]: tensor \"image\" is not an input of this model"},
    {"inputs { name: 'text_input' datatype: 'FP32' shape: 1 }",
     "inputs[0]: tensor \"text_input\" has datatype \"FP32\", not \"BYTES\""},
    {"inputs { name: 'text_input' datatype: 'BYTES' shape: 1 shape: 2 }",
     "tensor \"text_input\" has shape [1, 2], not [n] or [n, 1]"},
    {"inputs { name: 'text_input' datatype: 'BYTES' shape: 0 }", "has shape [0]"},
    {"inputs { name: 'text_input' datatype: 'BYTES' shape: -1 }", "has shape [-1]"},
    {"inputs { name: 'text_input' datatype: 'BYTES' shape: 9223372036854775807 }",
     "server.limits.infer_rows", grpc::StatusCode::RESOURCE_EXHAUSTED},
    {"inputs { name: 'text_input' datatype: 'BYTES' shape: 2 contents { bytes_contents: 'x' } }",
     "tensor \"text_input\" has 1 elements in bytes_contents, not 2"},
    {"inputs { name: 'text_input' datatype: 'BYTES' shape: 1 contents { bytes_contents: '' } }",
     "tensor \"text_input\" is empty in element 0"},
    {"inputs { name: 'text_input' datatype: 'BYTES' shape: 1 contents { bytes_contents: 'x' } "
     "parameters { key: 'shared_memory_region' value { string_param: 'r' } } }",
     "shared memory and others are not supported"},
    {"inputs { name: 'text_input' datatype: 'BYTES' shape: 1 contents { bytes_contents: 'x' } } "
     "inputs { name: 'text_input' datatype: 'BYTES' shape: 1 contents { bytes_contents: 'x' } }",
     "inputs[1]: tensor \"text_input\" is given twice"},
    {"inputs { name: 'text_input' datatype: 'BYTES' shape: 1 contents { bytes_contents: 'x' } } "
     "inputs { name: 'stream' datatype: 'BOOL' shape: 1 contents { bool_contents: true } }",
     "tensor \"stream\" may only be false"},
    {"inputs { name: 'text_input' datatype: 'BYTES' shape: 1 contents { bytes_contents: 'x' } } "
     "inputs { name: 'sampling_parameters' datatype: 'BYTES' shape: 1 "
     "contents { bytes_contents: '{\"top_p\": [[[1]]]}' } }",
     "sampling_parameters: nested too deeply"},
    {"inputs { name: 'text_input' datatype: 'BYTES' shape: 1 contents { bytes_contents: 'x' } } "
     "inputs { name: 'sampling_parameters' datatype: 'BYTES' shape: 1 "
     "contents { bytes_contents: '{\"top_p\": ' } }",
     "sampling_parameters: not a JSON object"},
    {"inputs { name: 'text_input' datatype: 'BYTES' shape: 1 } raw_input_contents: '\\005\\000'",
     "tensor \"text_input\" does not hold the 1 elements of its shape"},
    {"inputs { name: 'text_input' datatype: 'BYTES' shape: 1 } "
     "raw_input_contents: '\\377\\377\\377\\377x'",
     "does not hold the 1 elements of its shape"},
    {"inputs { name: 'text_input' datatype: 'BYTES' shape: 1 } "
     "raw_input_contents: '\\001\\000\\000\\000xy'",
     "does not hold the 1 elements of its shape"},
    {"raw_input_contents: '\\001\\000\\000\\000x'", "although raw_input_contents is set"},
    {"raw_input_contents: 'a' raw_input_contents: 'b'",
     "raw_input_contents: 2 tensors, but there are 1 inputs"},
    {"outputs { name: 'image' }", "outputs[0]: tensor \"image\" is not an output of this model"},
    {"outputs { name: 'text_output' } outputs { name: 'text_output' }",
     "outputs[1]: tensor \"text_output\" is asked for twice"},
    {"parameters { key: 'max_token' value { int64_param: 1 } }",
     "parameters.max_token: there is no such sampling parameter"},
    {"parameters { key: 'max_tokens' value { string_param: 'many' } }",
     "parameters.max_tokens: not a whole number of 32 bits"},
    {"parameters { key: 'max_tokens' value { int64_param: 4294967296 } }",
     "parameters.max_tokens: not a whole number of 32 bits"},
    {"parameters { key: 'seed' value { int64_param: -1 } }",
     "parameters.seed: not a whole number from 0"},
    {"parameters { key: 'temperature' value { double_param: 3 } }", "parameters.temperature: "},
    {"parameters { key: 'n' value { int64_param: 2 } }", "parameters.n: has no place"},
};

// By way of a dynamic message: reflection on maps of a generated one crashes when only one of
// program and libprotobuf is built with ThreadSanitizer.
ModelInferRequest ParseText(const char* text) {
  google::protobuf::DynamicMessageFactory factory;
  const std::unique_ptr<google::protobuf::Message> dynamic(
      factory.GetPrototype(ModelInferRequest::descriptor())->New());
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, dynamic.get()));
  ModelInferRequest request;
  EXPECT_TRUE(request.ParseFromString(dynamic->SerializeAsString()));
  return request;
}

TEST_F(OpenInferenceServiceTest, BadRequestsAreNamed) {
  Start();
  for (const BadRequestRow& row : kBadRequests) {
    SCOPED_TRACE(row.change);
    const ModelInferRequest change = ParseText(row.change);
    ModelInferRequest request = TypedRequest({"x"});
    if (change.inputs_size() > 0) request.clear_inputs();
    request.MergeFrom(change);
    ModelInferResponse response;
    const grpc::Status status = Infer(request, &response);
    EXPECT_EQ(status.error_code(), row.code);
    EXPECT_THAT(status.error_message(), HasSubstr(row.error));
    google::rpc::ErrorInfo info;
    const google::rpc::Status details = Details(status);
    ASSERT_GE(details.details_size(), 1);
    ASSERT_TRUE(details.details(0).UnpackTo(&info));
    EXPECT_EQ(info.domain(), "moelight");
  }
  EXPECT_THAT(engine().submitted_prompts(), IsEmpty());
}

TEST_F(OpenInferenceServiceTest, OnePromptThatFailsEndsTheOthers) {
  Start();
  ModelInferResponse response;
  grpc::Status status = Infer(TypedRequest({"hang: on", "fail: now", "hang: on"}), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(), "element 1 of tensor \"text_input\": asked to fail");
  EXPECT_TRUE(Eventually([&]() { return engine().Stats().num_running == 0; }));
  // A refusal of the engine, after a first prompt that it took.
  status = Infer(TypedRequest({"hang: on", "reject: this"}), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(Eventually([&]() { return engine().Stats().num_running == 0; }));
}

TEST_F(OpenInferenceServiceTest, CancelledCallStopsEveryPrompt) {
  Start();
  const std::unique_ptr<grpc::ClientContext> context = NewContext();
  grpc::CompletionQueue queue;
  const auto call =
      stub_->AsyncModelInfer(context.get(), RawRequest({"hang: 1", "hang: 2", "hang: 3"}), &queue);
  ModelInferResponse response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  ASSERT_TRUE(Eventually([&]() { return engine().Stats().num_running == 3; }));
  context->TryCancel();
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&]() { return engine().num_cancelled() == 3; }));
  EXPECT_TRUE(Eventually([&]() { return engine().Stats().num_running == 0; }));
}

TEST_F(OpenInferenceServiceTest, LimitsAreKept) {
  config().rpc_limits.infer_rows = 2;
  config().rpc_limits.stream_buffer = 64 << 10;
  engine_options().max_queued_requests = 1;
  Start();
  ModelInferResponse response;
  grpc::Status status = Infer(TypedRequest({"a", "b", "c"}), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(Details(status).DebugString(), HasSubstr("server.limits.infer_rows"));

  status = Infer(TypedRequest({std::string(65 << 10, 'x')}), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("server.limits.stream_buffer"));

  // The queue of the engine has room for the first prompt only; it is taken back.
  engine().SetPaused(true);
  status = Infer(TypedRequest({"a", "b"}), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  engine().SetPaused(false);
  EXPECT_TRUE(Eventually([&]() {
    const EngineStats stats = engine().Stats();
    return stats.num_queued == 0 && stats.num_running == 0;
  }));
}

TEST_F(OpenInferenceServiceTest, ReadinessFollowsThePhase) {
  Start(/*load_model=*/false);
  const auto server_ready = [this]() {
    inference::ServerReadyResponse response;
    EXPECT_TRUE(stub_->ServerReady(NewContext().get(), {}, &response).ok());
    return response.ready();
  };
  inference::ModelReadyRequest fake;
  fake.set_name("fake");
  const auto model_ready = [&]() {
    inference::ModelReadyResponse response;
    EXPECT_TRUE(stub_->ModelReady(NewContext().get(), fake, &response).ok());
    return response.ready();
  };
  inference::ServerLiveResponse live;
  EXPECT_TRUE(stub_->ServerLive(NewContext().get(), {}, &live).ok());
  EXPECT_TRUE(live.live());
  EXPECT_FALSE(server_ready());
  EXPECT_FALSE(model_ready());
  ModelInferResponse response;
  EXPECT_EQ(Infer(TypedRequest({"x"}), &response).error_code(), grpc::StatusCode::UNAVAILABLE);
  inference::ModelMetadataResponse metadata;
  EXPECT_EQ(stub_->ModelMetadata(NewContext().get(), {}, &metadata).error_code(),
            grpc::StatusCode::UNAVAILABLE);

  ASSERT_TRUE(daemon().LoadModel().ok());
  EXPECT_TRUE(server_ready());
  EXPECT_TRUE(model_ready());
  inference::ModelReadyRequest other;
  other.set_name("other");
  inference::ModelReadyResponse none;
  EXPECT_EQ(stub_->ModelReady(NewContext().get(), other, &none).error_code(),
            grpc::StatusCode::NOT_FOUND);

  daemon().Drain([]() {});
  EXPECT_FALSE(server_ready());
  EXPECT_FALSE(model_ready());
  EXPECT_EQ(Infer(TypedRequest({"x"}), &response).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(OpenInferenceServiceTest, MetadataDescribesWhatInferTakesAndGives) {
  Start();
  inference::ServerMetadataResponse server;
  ASSERT_TRUE(stub_->ServerMetadata(NewContext().get(), {}, &server).ok());
  EXPECT_EQ(server.name(), "moelight");
  EXPECT_EQ(server.version(), "1.2.3");
  inference::ModelMetadataRequest request;
  request.set_name("fake");
  inference::ModelMetadataResponse model;
  ASSERT_TRUE(stub_->ModelMetadata(NewContext().get(), request, &model).ok());
  EXPECT_THAT(model.versions(), ElementsAre("1"));
  ASSERT_EQ(model.inputs_size(), 4);
  EXPECT_EQ(model.inputs(0).name(), "text_input");
  EXPECT_THAT(model.inputs(0).shape(), ElementsAre(-1));
  EXPECT_EQ(model.outputs(0).name(), "text_output");
  request.set_name("other");
  EXPECT_EQ(stub_->ModelMetadata(NewContext().get(), request, &model).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

// Numbers of the public protocol, written down a second time: a client made elsewhere has them.
TEST(OpenInferenceProtocolTest, FieldNumbersAreThoseOfThePublicProtocol) {
  const struct {
    const char* message;
    const char* fields;
  } rows[] = {
      {"ModelInferRequest",
       "model_name=1 model_version=2 id=3 parameters=4 inputs=5 outputs=6 raw_input_contents=7"},
      {"ModelInferRequest.InferInputTensor", "name=1 datatype=2 shape=3 parameters=4 contents=5"},
      {"ModelInferRequest.InferRequestedOutputTensor", "name=1 parameters=2"},
      {"ModelInferResponse",
       "model_name=1 model_version=2 id=3 parameters=4 outputs=5 raw_output_contents=6"},
      {"ModelInferResponse.InferOutputTensor", "name=1 datatype=2 shape=3 parameters=4 contents=5"},
      {"ModelMetadataResponse", "name=1 versions=2 platform=3 inputs=4 outputs=5"},
      {"ModelMetadataResponse.TensorMetadata", "name=1 datatype=2 shape=3"},
      {"ServerMetadataResponse", "name=1 version=2 extensions=3"},
      {"InferParameter", "bool_param=1 int64_param=2 string_param=3 double_param=4 uint64_param=5"},
      {"InferTensorContents",
       "bool_contents=1 int_contents=2 int64_contents=3 uint_contents=4 uint64_contents=5 "
       "fp32_contents=6 fp64_contents=7 bytes_contents=8"},
  };
  const google::protobuf::FileDescriptor& file = *ModelInferRequest::descriptor()->file();
  EXPECT_EQ(file.package(), "inference");
  for (const auto& row : rows) {
    const auto* message =
        file.pool()->FindMessageTypeByName(absl::StrCat("inference.", row.message));
    ASSERT_NE(message, nullptr) << row.message;
    std::vector<std::string> fields;
    for (int i = 0; i < message->field_count(); ++i) {
      fields.push_back(absl::StrCat(message->field(i)->name(), "=", message->field(i)->number()));
    }
    EXPECT_EQ(absl::StrJoin(fields, " "), row.fields) << row.message;
  }
}

}  // namespace
}  // namespace moelight
