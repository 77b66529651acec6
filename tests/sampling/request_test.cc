#include "engine/request.h"

#include <cmath>
#include <ctime>
#include <functional>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/sampling/sampling_defaults.h"

namespace moelight {
namespace {

using ::testing::StartsWith;

constexpr int32_t kVocabSize = 1000;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

struct Case {
  std::function<void(SamplingParams&)> set;
  std::string message;  // how the error begins; empty: valid
};

// clang-format off
const Case kCases[] = {
    {[](auto&) {}, ""},
    {[](auto& p) { p.temperature = 0.0f; }, ""},
    {[](auto& p) { p.temperature = 2.0f; }, ""},
    {[](auto& p) { p.temperature = 2.5f; }, "sampling.temperature: 2.5 is outside [0, 2]"},
    {[](auto& p) { p.temperature = -0.1f; }, "sampling.temperature: -0.1 is outside [0, 2]"},
    {[](auto& p) { p.temperature = kNan; }, "sampling.temperature: nan is outside [0, 2]"},
    {[](auto& p) { p.temperature = kInf; }, "sampling.temperature: inf is outside [0, 2]"},
    {[](auto& p) { p.top_p = 1.0f; }, ""},
    {[](auto& p) { p.top_p = 1e-30f; }, ""},
    {[](auto& p) { p.top_p = 0.0f; }, "sampling.top_p: 0 is outside (0, 1]"},
    {[](auto& p) { p.top_p = 1.01f; }, "sampling.top_p: 1.01 is outside (0, 1]"},
    {[](auto& p) { p.top_p = kNan; }, "sampling.top_p: nan is outside (0, 1]"},
    {[](auto& p) { p.top_k = -1; }, ""},
    {[](auto& p) { p.top_k = 0; }, ""},
    {[](auto& p) { p.top_k = 2147483647; }, ""},
    {[](auto& p) { p.top_k = -2; }, "sampling.top_k: -2 is"},
    {[](auto& p) { p.min_p = 0.0f; }, ""},
    {[](auto& p) { p.min_p = 1.0f; }, ""},
    {[](auto& p) { p.min_p = -0.5f; }, "sampling.min_p: -0.5 is outside [0, 1]"},
    {[](auto& p) { p.min_p = kNan; }, "sampling.min_p: nan is outside [0, 1]"},
    {[](auto& p) { p.repetition_penalty = 2.0f; }, ""},
    {[](auto& p) { p.repetition_penalty = 0.0f; },
     "sampling.repetition_penalty: 0 is outside (0, 2]"},
    {[](auto& p) { p.repetition_penalty = 3.0f; },
     "sampling.repetition_penalty: 3 is outside (0, 2]"},
    {[](auto& p) { p.presence_penalty = -2.0f; }, ""},
    {[](auto& p) { p.presence_penalty = -2.1f; },
     "sampling.presence_penalty: -2.1 is outside [-2, 2]"},
    {[](auto& p) { p.frequency_penalty = 2.0f; }, ""},
    {[](auto& p) { p.frequency_penalty = kInf; },
     "sampling.frequency_penalty: inf is outside [-2, 2]"},
    {[](auto& p) { p.seed = ~uint64_t{0}; }, ""},
    {[](auto& p) { p.max_tokens = 1; }, ""},
    {[](auto& p) { p.max_tokens = 0; }, "sampling.max_tokens: 0 is less than 1"},
    {[](auto& p) { p.min_tokens = 0; }, ""},
    {[](auto& p) { p.min_tokens = 5; }, ""},
    {[](auto& p) { p.min_tokens = -1; }, "sampling.min_tokens: -1 is less than 0"},
    {[](auto& p) { p.min_tokens = p.max_tokens = 5; }, ""},
    {[](auto& p) { p.min_tokens = 6; p.max_tokens = 5; },
     "sampling.min_tokens: 6 is more than max_tokens, 5"},
    {[](auto& p) { p.stop.assign(16, "x"); }, ""},
    {[](auto& p) { p.stop.assign(17, "x"); }, "sampling.stop: 17 entries, limit 16"},
    {[](auto& p) { p.stop = {"a", ""}; }, "sampling.stop[1]: empty string"},
    {[](auto& p) { p.stop = {std::string(256, 'x')}; }, ""},
    {[](auto& p) { p.stop = {"a", "b", std::string(257, 'x')}; },
     "sampling.stop[2]: 257 bytes, limit 256"},
    {[](auto& p) { p.stop_token_ids.assign(64, 999); }, ""},
    {[](auto& p) { p.stop_token_ids.assign(65, 1); }, "sampling.stop_token_ids: 65 entries, limit"},
    {[](auto& p) { p.stop_token_ids = {1, 1000}; },
     "sampling.stop_token_ids[1]: token id 1000 is outside [0, 1000)"},
    {[](auto& p) { p.stop_token_ids = {-1}; }, "sampling.stop_token_ids[0]: token id -1 is"},
    {[](auto& p) { p.logprobs = 0; }, ""},
    {[](auto& p) { p.logprobs = 20; }, ""},
    {[](auto& p) { p.logprobs = 21; }, "sampling.logprobs: 21 is outside [0, 20]"},
    {[](auto& p) { p.logprobs = -1; }, "sampling.logprobs: -1 is outside [0, 20]"},
    {[](auto& p) { p.n = 16; }, ""},
    {[](auto& p) { p.n = 0; }, "sampling.n: 0 is outside [1, 16]"},
    {[](auto& p) { p.n = 17; }, "sampling.n: 17 is outside [1, 16]"},
    {[](auto& p) { p.n = 2; p.temperature = 0.0f; }, "sampling.n: 2 choices would be equal"},
    {[](auto& p) { p.logit_bias = {{0, -100.0f}, {999, 100.0f}}; }, ""},
    {[](auto& p) { p.logit_bias = {{0, 0.0f}, {1000, 1.0f}}; },
     "sampling.logit_bias[1]: token id 1000 is outside [0, 1000)"},
    {[](auto& p) { p.logit_bias = {{0, 100.5f}}; },
     "sampling.logit_bias[0]: 100.5 is outside [-100, 100]"},
    {[](auto& p) { p.logit_bias = {{0, kNan}}; },
     "sampling.logit_bias[0]: nan is outside [-100, 100]"},
    {[](auto& p) { p.logit_bias = {{3, 1.0f}, {4, 1.0f}, {3, 2.0f}}; },
     "sampling.logit_bias: token id 3 appears twice"},
    {[](auto& p) { p.logit_bias.assign(1025, {0, 0.0f}); },
     "sampling.logit_bias: 1025 entries, limit 1024"},
};
// clang-format on

TEST(ValidateSamplingParamsTest, EveryRangeNamesFieldValueAndLimit) {
  for (const Case& c : kCases) {
    SamplingParams params;
    c.set(params);
    const absl::Status status = ValidateSamplingParams(params, kVocabSize);
    if (c.message.empty()) {
      EXPECT_TRUE(status.ok()) << status;
      continue;
    }
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.message;
    EXPECT_THAT(std::string(status.message()), StartsWith(c.message));
  }
}

TEST(ValidateSamplingParamsTest, StopStringsMustBeUtf8) {
  const auto validate = [](std::string stop) {
    SamplingParams params;
    params.stop = {std::move(stop)};
    return ValidateSamplingParams(params, kVocabSize);
  };
  for (const char* valid :
       {"a", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEF\xBF\xBF",
        "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "é\n語🙂"}) {
    EXPECT_TRUE(validate(valid).ok()) << valid;
  }
  EXPECT_TRUE(validate(std::string("\0", 1)).ok());
  for (const char* invalid :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\x41", "\xE0\x9F\xBF", "\xE2\x82",
        "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF0\x9F\x98", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
        "\xFF", "ok\xE2\x82\x41"}) {
    EXPECT_THAT(std::string(validate(invalid).message()),
                StartsWith("sampling.stop[0]: not valid UTF-8 at byte "));
  }
}

TEST(ValidateSamplingParamsTest, HostileSizesAreRefusedByTheirCount) {
  SamplingParams params;
  params.stop.assign(10'000, std::string(1'000, 'x'));
  params.stop_token_ids.assign(1'000'000, -7);
  params.logit_bias.assign(1'000'000, {-7, kNan});
  const std::clock_t begin = std::clock();
  const absl::Status status = ValidateSamplingParams(params, kVocabSize);
  const double cpu_seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_EQ(status.message(), "sampling.stop: 10000 entries, limit 16");
  EXPECT_LT(cpu_seconds, 0.05);  // microseconds, but for a sanitizer
  params.stop = {std::string(100'000'000, '\xFF')};
  EXPECT_EQ(ValidateSamplingParams(params, kVocabSize).message(),
            "sampling.stop[0]: 100000000 bytes, limit 256");
}

TEST(ValidateSamplingDefaultsTest, NamesTheModelsFile) {
  SamplingDefaults defaults;
  defaults.temperature = 0.7f;
  defaults.eos_token_ids = {2, 999};
  EXPECT_TRUE(ValidateSamplingDefaults(defaults, kVocabSize).ok());
  defaults.eos_token_ids = {2, 1000};
  EXPECT_EQ(ValidateSamplingDefaults(defaults, kVocabSize).message(),
            "generation_config.eos_token_id: token id 1000 is outside [0, 1000)");
  defaults.top_p = 1.5f;
  EXPECT_EQ(ValidateSamplingDefaults(defaults, kVocabSize).message(),
            "generation_config.top_p: 1.5 is outside (0, 1]");
}

TEST(ResolveSamplingTest, RequestThenModelThenDocumentedDefault) {
  const ResolvedSampling plain = ResolveSampling({}, {});
  EXPECT_EQ(plain.temperature, 1);
  EXPECT_EQ(plain.top_p, 1);
  EXPECT_EQ(plain.top_k, 0);
  EXPECT_EQ(plain.min_p, 0);
  EXPECT_EQ(plain.repetition_penalty, 1);
  EXPECT_EQ(plain.min_tokens, 0);

  SamplingDefaults defaults;
  defaults.temperature = 0.6f;
  defaults.top_p = 0.95f;
  defaults.top_k = 20;
  defaults.min_p = 0.1f;
  defaults.repetition_penalty = 1.05f;
  const ResolvedSampling model = ResolveSampling({}, defaults);
  EXPECT_EQ(model.temperature, 0.6f);
  EXPECT_EQ(model.top_p, 0.95f);
  EXPECT_EQ(model.top_k, 20);
  EXPECT_EQ(model.min_p, 0.1f);
  EXPECT_EQ(model.repetition_penalty, 1.05f);

  SamplingParams params;
  params.temperature = 1e-6f;
  params.top_k = -1;
  params.min_p = 0.0f;
  const ResolvedSampling both = ResolveSampling(params, defaults);
  EXPECT_EQ(both.temperature, kMinTemperature);
  EXPECT_EQ(both.top_p, 0.95f);
  EXPECT_EQ(both.top_k, 0);
  EXPECT_EQ(both.min_p, 0);
}

TEST(FinishReasonNameTest, Names) {
  EXPECT_EQ(FinishReasonName(FinishReason::kStop), "stop");
  EXPECT_EQ(FinishReasonName(FinishReason::kLength), "length");
  EXPECT_EQ(FinishReasonName(FinishReason::kCancelled), "cancelled");
  EXPECT_EQ(FinishReasonName(FinishReason::kError), "error");
}

}  // namespace
}  // namespace moelight
