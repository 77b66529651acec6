#include "engine/sampling/stop_checker.h"

#include <algorithm>
#include <limits>
#include <random>

#include <gtest/gtest.h>

namespace moelight {
namespace {

constexpr int32_t kNoLimit = std::numeric_limits<int32_t>::max();
constexpr TokenId kText = 1;  // a token that ends nothing
constexpr TokenId kEos = 2;
constexpr TokenId kStopToken = 3;

StopChecker MakeChecker(const SamplingParams& params, int32_t max_output_tokens = kNoLimit) {
  SamplingDefaults defaults;
  defaults.eos_token_ids = {kEos};
  return StopChecker(params, defaults, max_output_tokens);
}

SamplingParams Stops(std::vector<std::string> stop) {
  SamplingParams params;
  params.stop = std::move(stop);
  return params;
}

struct Outcome {
  std::string text;
  std::string stop_reason;
  bool stopped = false;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

std::ostream& operator<<(std::ostream& os, const Outcome& o) {
  return os << '"' << o.text << "\", stop " << o.stopped << " by \"" << o.stop_reason << '"';
}

// Feeds `text` cut after each position where `cuts` has a bit.
Outcome Feed(const SamplingParams& params, const std::string& text, uint64_t cuts) {
  StopChecker checker = MakeChecker(params);
  Outcome outcome;
  size_t begin = 0;
  for (size_t end = 1; end <= text.size() && !outcome.stopped; ++end) {
    if (end < text.size() && (cuts >> (end - 1) & 1) == 0) continue;
    const StopDecision decision = checker.Append(kText, text.substr(begin, end - begin));
    outcome.text += decision.emit;
    outcome.stop_reason = decision.stop_reason;
    outcome.stopped = decision.stop;
    begin = end;
  }
  outcome.text += checker.Flush("").emit;
  return outcome;
}

// The match that ends first; the longest of those.
Outcome ReferenceOutcome(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string prefix = text.substr(0, end);
    std::string longest;
    for (const std::string& stop : stops) {
      if (prefix.ends_with(stop) && stop.size() > longest.size()) longest = stop;
    }
    if (!longest.empty()) return {prefix.substr(0, end - longest.size()), longest, true};
  }
  return {text, "", false};
}

TEST(StopCheckerTest, EveryWayToCutTheTextGivesTheSame) {
  const struct {
    std::vector<std::string> stops;
    std::string text;
  } cases[] = {
      {{"STOP"}, "abcSTOPdef"},
      {{"STOP"}, "SSTSTOSTOP!"},
      {{"aab"}, "aaaaabaa"},
      {{"abab"}, "abaabababx"},
      {{"x"}, "xyz"},
      {{"zz"}, "no match z"},
      {{"END"}, "ends in EN"},
      {{"bc", "abcd"}, "xxabcdx"},
      {{"abcd", "bcd"}, "xxabcdx"},
      {{"b", "abc"}, "aabcaabc"},
      {{"aa", "aaa"}, "baaaa"},
      {{"\n\n", "\nQ:"}, "A\nB\nQ:\n\n"},
      {{"\xC3\xA9!"}, "caf\xC3\xA9\xC3\xA9!x"},
  };
  for (const auto& c : cases) {
    const Outcome expected = ReferenceOutcome(c.stops, c.text);
    for (uint64_t cuts = 0; cuts < uint64_t{1} << (c.text.size() - 1); ++cuts) {
      ASSERT_EQ(Feed(Stops(c.stops), c.text, cuts), expected) << c.text << ", cuts " << cuts;
    }
  }
}

TEST(StopCheckerTest, RandomTextsOfFewLetters) {
  std::mt19937_64 random(5);
  const auto random_text = [&](int max_length) {
    std::string text(1 + random() % max_length, 'a');
    for (char& c : text) c = static_cast<char>('a' + random() % 2);
    return text;
  };
  for (int i = 0; i < 3000; ++i) {
    std::vector<std::string> stops(1 + random() % 4);
    for (std::string& stop : stops) stop = random_text(9);
    const std::string text = random_text(60);
    ASSERT_EQ(Feed(Stops(stops), text, random()), ReferenceOutcome(stops, text));
  }
}

TEST(StopCheckerTest, HoldsBackExactlyWhatMayBecomeAStopString) {
  StopChecker checker = MakeChecker(Stops({"<end>", "e!"}));
  const std::pair<const char*, const char*> steps[] = {{"Hello", "Hello"}, {" <", " "}, {"en", ""},
                                                       {"e", "<en"},       {"<e", "e"}, {"nd", ""}};
  for (const auto& [text, emitted] : steps) {
    const StopDecision decision = checker.Append(kText, text);
    EXPECT_EQ(decision.emit, emitted);
    EXPECT_FALSE(decision.stop);
  }
  const StopDecision decision = checker.Append(kText, "> dropped");
  EXPECT_EQ(decision.emit, "");
  EXPECT_TRUE(decision.stop);
  EXPECT_EQ(decision.reason, FinishReason::kStop);
  EXPECT_EQ(decision.stop_reason, "<end>");
  EXPECT_EQ(checker.Flush("also dropped").emit, "");
}

TEST(StopCheckerTest, EosDropsItsTextAndFlushGivesWhatWasHeld) {
  StopChecker checker = MakeChecker(Stops({"abc"}));
  EXPECT_EQ(checker.Append(kText, "xab").emit, "x");
  const StopDecision decision = checker.Append(kEos, "</s>");
  EXPECT_TRUE(decision.stop);
  EXPECT_EQ(decision.reason, FinishReason::kStop);
  EXPECT_EQ(decision.stop_reason, "");
  const StopDecision rest = checker.Flush("?");
  EXPECT_FALSE(rest.stop);
  EXPECT_EQ(decision.emit + rest.emit, "ab?");
}

TEST(StopCheckerTest, TheTailMayCompleteAStopString) {
  StopChecker checker = MakeChecker(Stops({"abc"}));
  EXPECT_EQ(checker.Append(kText, "xab").emit, "x");
  const StopDecision rest = checker.Flush("cd");
  EXPECT_TRUE(rest.stop);
  EXPECT_EQ(rest.reason, FinishReason::kStop);
  EXPECT_EQ(rest.stop_reason, "abc");
  EXPECT_EQ(rest.emit, "");
}

TEST(StopCheckerTest, IgnoredEosIsText) {
  SamplingParams params;
  params.ignore_eos = true;
  params.max_tokens = 3;
  StopChecker checker = MakeChecker(params);
  EXPECT_EQ(checker.Append(kEos, "</s>").emit, "</s>");
  EXPECT_FALSE(checker.Append(kEos, "").stop);
  EXPECT_EQ(checker.Append(kEos, "").reason, FinishReason::kLength);
}

TEST(StopCheckerTest, IgnoredEosStillStopsIfItIsAStopToken) {
  SamplingParams params;
  params.ignore_eos = true;
  params.stop_token_ids = {kEos};
  const StopDecision decision = MakeChecker(params).Append(kEos, "</s>");
  EXPECT_TRUE(decision.stop);
  EXPECT_EQ(decision.stop_reason, "2");
}

TEST(StopCheckerTest, StopTokenNamesItself) {
  SamplingParams params;
  params.stop_token_ids = {9, kStopToken};
  StopChecker checker = MakeChecker(params);
  EXPECT_FALSE(checker.Append(kText, "a").stop);
  const StopDecision decision = checker.Append(kStopToken, "dropped");
  EXPECT_TRUE(decision.stop);
  EXPECT_EQ(decision.reason, FinishReason::kStop);
  EXPECT_EQ(decision.stop_reason, "3");
  EXPECT_EQ(decision.emit, "");
}

TEST(StopCheckerTest, MaxTokensIsTheSmallerLimit) {
  for (const auto& [requested, context_left, expected] :
       {std::tuple{3, 10, 3}, {10, 3, 3}, {1, 1, 1}}) {
    SamplingParams params;
    params.max_tokens = requested;
    StopChecker checker = MakeChecker(params, context_left);
    for (int i = 1; i < expected; ++i) EXPECT_FALSE(checker.Append(kText, "a").stop);
    const StopDecision decision = checker.Append(kText, "a");
    EXPECT_TRUE(decision.stop);
    EXPECT_EQ(decision.reason, FinishReason::kLength);
    EXPECT_EQ(decision.stop_reason, "");
    EXPECT_EQ(decision.emit, "a");
  }
}

TEST(StopCheckerTest, AStopInTheLastTokenWinsOverTheLength) {
  SamplingParams params = Stops({"b"});
  params.max_tokens = 1;
  const StopDecision by_string = MakeChecker(params).Append(kText, "ab");
  EXPECT_EQ(by_string.reason, FinishReason::kStop);
  EXPECT_EQ(by_string.stop_reason, "b");
  EXPECT_EQ(MakeChecker(params).Append(kEos, "").reason, FinishReason::kStop);
}

TEST(StopCheckerTest, NothingStopsWithinMinTokens) {
  SamplingParams params = Stops({"ab"});
  params.min_tokens = 2;
  params.stop_token_ids = {kStopToken};
  StopChecker checker = MakeChecker(params);
  EXPECT_EQ(checker.Append(kText, "xab").emit, "xab");  // complete too early: plain text
  EXPECT_EQ(checker.Append(kEos, "-a").emit, "-");
  const StopDecision decision = checker.Append(kText, "b!");  // began early, complete now
  EXPECT_TRUE(decision.stop);
  EXPECT_EQ(decision.emit, "");

  StopChecker by_token = MakeChecker(params);
  for (bool expected : {false, false, true}) {
    EXPECT_EQ(by_token.EndsSequence(kStopToken), expected);
    EXPECT_FALSE(by_token.EndsSequence(kText));
    EXPECT_EQ(by_token.Append(kStopToken, "").stop, expected);
  }
}

TEST(StopCheckerTest, LongPeriodicTextCostsNoMoreThanItsBytes) {
  // Each byte nearly completes every stop string: the worst case of a naive search.
  std::vector<std::string> stops;
  for (int i = 0; i < kMaxStopStrings; ++i) {
    stops.push_back(std::string(kMaxStopStringBytes - 1 - i, 'a') + "b");
  }
  StopChecker checker = MakeChecker(Stops(stops));
  std::string text;
  for (int i = 0; i < 20'000; ++i) {
    const StopDecision decision = checker.Append(kText, "aaaa");
    ASSERT_FALSE(decision.stop);
    text += decision.emit;
  }
  EXPECT_EQ(text.size(), 80'000 - (kMaxStopStringBytes - 1));
  EXPECT_TRUE(checker.Append(kText, "b").stop);
}

TEST(StopCheckerDeathTest, ATokenAfterTheEndIsABug) {
  StopChecker checker = MakeChecker({});
  EXPECT_TRUE(checker.Append(kEos, "").stop);
  EXPECT_DEATH(checker.Append(kText, "a"), "after the end");
}

}  // namespace
}  // namespace moelight
