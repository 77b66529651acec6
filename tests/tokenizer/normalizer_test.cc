// Goal: each normalizer type gives what the Hugging Face library gives, and carries plain marks.
#include "engine/tokenizer/normalizer.h"

#include <algorithm>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moelight {
namespace {

NormalizedText Normalize(const std::string& config, const std::string& text,
                         const std::string& plain = "") {
  const auto normalizer = MakeNormalizer(nlohmann::json::parse(config));
  EXPECT_TRUE(normalizer.ok()) << normalizer.status();
  NormalizedText result{text, plain};
  EXPECT_TRUE((*normalizer)->Apply(&result).ok());
  return result;
}

TEST(NormalizerTest, Normalizes) {
  const struct {
    std::string config, text, expected;
  } kCases[] = {
      {"null", " a", " a"},
      {R"({"type":"NFC"})", "e\u0301 \u212B a", "\u00E9 \u00C5 a"},
      {R"({"type":"NFC"})", std::string("\0a\u0301", 4), std::string("\0\u00E1", 3)},
      {R"({"type":"NFC"})", "\u1100\u1161\u11A8", "\uAC01"},
      {R"({"type":"NFC"})", "\u0958", "\u0915\u093C"},  // excluded from composition
      {R"({"type":"NFC"})", "\U00011935\U00011930", "\U00011935\U00011930"},  // since Unicode 13
      {R"({"type":"NFD"})", "\u00E9\uAC01", "e\u0301\u1100\u1161\u11A8"},
      {R"({"type":"NFKC"})", "\uFB01\u00BD", "fi1\u20442"},
      {R"({"type":"NFKC"})", "\u32FF", "\u32FF"},  // its decomposition came with Unicode 12.1
      {R"({"type":"NFKD"})", "\u212B\uFB01", "A\u030Afi"},
      {R"({"type":"Lowercase"})", "\u0391\u03A3 \u0130", "\u03B1\u03C3 i\u0307"},
      {R"({"type":"Prepend","prepend":"_"})", "a", "_a"},
      {R"({"type":"Prepend","prepend":"_"})", "", ""},
      {R"({"type":"Replace","pattern":{"String":"aa"},"content":"b"})", "aaaxa", "baxa"},
      {R"({"type":"Replace","pattern":{"Regex":"\\s+"},"content":"_"})", "a \u3000b", "a_b"},
      {R"({"type":"Strip","strip_left":true,"strip_right":true})", " \u3000a ", "a"},
      {R"({"type":"Strip","strip_left":false,"strip_right":true})", " \u3000", ""},
      {R"({"type":"Sequence","normalizers":[{"type":"Lowercase"},{"type":"NFC"}]})", "E\u0301",
       "\u00E9"},
  };
  for (const auto& c : kCases) EXPECT_EQ(Normalize(c.config, c.text).text, c.expected) << c.config;
}

TEST(NormalizerTest, CarriesPlainMarks) {
  const struct {
    std::string config, text, plain, expected;  // marks as '.' and 'P'
  } kCases[] = {
      {R"({"type":"Prepend","prepend":"__"})", "ab", ".P", "...P"},
      {R"({"type":"Replace","pattern":{"String":"ab"},"content":"xyz"})", "cabd", "..P.", ".PPP."},
      {R"({"type":"Strip","strip_left":true})", "  ab", "P.P.", "P."},
      {R"({"type":"Lowercase"})", "AB", "P.", "P."},
      // e, then a combining accent of the user: the result is the user's; what follows is not.
      {R"({"type":"NFC"})", "xe\u0301\u4F60", "..PP...", ".PP..."},
      {R"({"type":"NFC"})", "\u4F60\u597D", "PPP...", "PPP..."},
      {R"({"type":"NFKC"})", "\uFB01a", "PPP.", "PP."},
  };
  for (const auto& c : kCases) {
    std::string plain = c.plain;
    std::replace(plain.begin(), plain.end(), '.', '\0');
    std::replace(plain.begin(), plain.end(), 'P', '\1');
    NormalizedText result = Normalize(c.config, c.text, plain);
    std::replace(result.plain.begin(), result.plain.end(), '\0', '.');
    std::replace(result.plain.begin(), result.plain.end(), '\1', 'P');
    EXPECT_EQ(result.plain, c.expected) << c.config;
    EXPECT_EQ(result.plain.size(), result.text.size()) << c.config;
  }
}

}  // namespace
}  // namespace moelight
