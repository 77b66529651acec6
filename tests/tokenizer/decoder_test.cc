// Goal: each decoder type gives what the Hugging Face library gives, and holds back no more than it
// must.
#include "engine/tokenizer/decoder.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moelight {
namespace {

// What each token made certain, then what the end did.
std::vector<std::string> Pieces(const std::string& config, const std::vector<std::string>& tokens) {
  const auto decoder = Decoder::Create(nlohmann::json::parse(config));
  if (!decoder.ok()) return {std::string(decoder.status().message())};
  const auto stream = decoder->NewStream();
  std::vector<std::string> pieces;
  for (const std::string& token : tokens) stream->Append(token, &pieces.emplace_back());
  stream->Flush(&pieces.emplace_back());
  return pieces;
}

TEST(DecoderTest, StreamsByToken) {
  const std::string kLlama =
      R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"_"},"content":" "},
          {"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})";
  const struct {
    std::string config;
    std::vector<std::string> tokens, expected;
  } kCases[] = {
      {"null", {"a", "b"}, {"a", " b", ""}},
      {R"({"type":"ByteLevel"})", {"\u0120a", "\u00C3", "\u00A9"}, {" a", "", "\u00E9", ""}},
      {R"({"type":"ByteLevel"})", {"\u00C3", "a"}, {"", "\uFFFDa", ""}},
      {R"({"type":"ByteLevel"})", {"\u00C3"}, {"", "\uFFFD"}},
      {R"({"type":"ByteLevel"})", {"a b"}, {"a b", ""}},  // a space is no byte-level character
      {kLlama, {"_a", "_", "b"}, {"a", " ", "b", ""}},
      {kLlama, {"<0xC3>", "<0xA9>", "x"}, {"", "", "\u00E9x", ""}},
      {kLlama, {"<0x41>", "<0xC3>"}, {"", "", "\uFFFD\uFFFD"}},  // the whole run is invalid
      {R"({"type":"Strip","content":"_","start":1,"stop":1})", {"__a_", "_"}, {"_a", "", ""}},
      {R"({"type":"Metaspace","replacement":"_","prepend_scheme":"always"})",
       {"_a_b", "_c"},
       {"ab", " c", ""}},
      {R"({"type":"Metaspace","replacement":"_","prepend_scheme":"never"})", {"_a"}, {" a", ""}},
      {R"({"type":"Sequence","decoders":[]})", {"a"}, {"a", ""}},
  };
  for (const auto& c : kCases) EXPECT_EQ(Pieces(c.config, c.tokens), c.expected) << c.config;
}

TEST(DecoderTest, StripsTheEndOfTheWholeText) {
  const std::string config =
      R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Strip","content":"_","start":2,"stop":2}]})";
  using Strings = std::vector<std::string>;
  EXPECT_EQ(Pieces(config, {"_", "__a", "_", "b_", "_", "_"}),
            (Strings{"", "_a", "", "_b", "", "_", ""}));
  EXPECT_EQ(Pieces(config, {"___"}), (Strings{"", ""}));
}

TEST(DecoderTest, RefusesTokenStepsAfterFuse) {
  EXPECT_THAT(
      Pieces(R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteFallback"}]})", {}),
      testing::ElementsAre(testing::HasSubstr("after the tokens were fused")));
}

}  // namespace
}  // namespace moelight
