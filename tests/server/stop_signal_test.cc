// Goal: one signal stops in good order, two at once, and no stop takes longer than its limit. Each
// case that raises a signal runs in a process of its own.
#include "server/stop_signal.h"

#include <unistd.h>

#include <thread>

#include <gtest/gtest.h>

namespace moelight {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kOrderly = 7;  // exit code of a child that stopped by itself

class StopSignalTest : public ::testing::Test {
 protected:
  StopSignalTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

[[noreturn]] void RaiseAndWait(int signal) {
  bool called = false;
  {
    StopSignal stop(seconds(60), Logger::Null(), [&called]() { called = true; });
    kill(getpid(), signal);
    if (stop.WaitForRequest() != seconds(0)) _exit(100);
    stop.WaitForDrained(seconds(60));  // a signal leaves no grace
  }
  _exit(called ? kOrderly : 101);
}

TEST_F(StopSignalTest, FirstSignalAsksForAStopWithoutGrace) {
  EXPECT_EXIT(RaiseAndWait(SIGTERM), ::testing::ExitedWithCode(kOrderly), "");
  EXPECT_EXIT(RaiseAndWait(SIGINT), ::testing::ExitedWithCode(kOrderly), "");
}

[[noreturn]] void ReloadThenStop() {
  StopSignal stop(seconds(60), Logger::Null(), []() {});
  kill(getpid(), SIGHUP);
  if (stop.WaitForRequest().has_value()) _exit(106);
  kill(getpid(), SIGHUP);
  if (stop.WaitForRequest().has_value()) _exit(107);
  kill(getpid(), SIGTERM);
  if (stop.WaitForRequest() != seconds(0)) _exit(108);
  kill(getpid(), SIGHUP);  // too late to matter
  _exit(kOrderly);
}

TEST_F(StopSignalTest, HangUpAsksForAReloadAndTheDaemonGoesOn) {
  EXPECT_EXIT(ReloadThenStop(), ::testing::ExitedWithCode(kOrderly), "");
}

[[noreturn]] void RaiseTwice() {
  StopSignal stop(seconds(60), Logger::Null(), []() {});
  kill(getpid(), SIGTERM);
  stop.WaitForRequest();
  kill(getpid(), SIGTERM);
  std::this_thread::sleep_for(seconds(30));  // the signal thread ends the process
  _exit(102);
}

TEST_F(StopSignalTest, SecondSignalExitsAtOnce) {
  EXPECT_EXIT(RaiseTwice(), ::testing::ExitedWithCode(1), "");
}

[[noreturn]] void StopTooSlowly() {
  StopSignal stop(milliseconds(50), Logger::Null(), []() {});
  kill(getpid(), SIGTERM);
  std::this_thread::sleep_for(seconds(30));  // the signal thread ends the process
  _exit(103);
}

TEST_F(StopSignalTest, StopThatTakesTooLongIsCutShort) {
  EXPECT_EXIT(StopTooSlowly(), ::testing::ExitedWithCode(0), "");
}

[[noreturn]] void DrainThenSignal() {
  StopSignal stop(seconds(60), Logger::Null(), []() {});
  stop.RequestDrain(seconds(3600));
  if (stop.WaitForRequest() != seconds(3600)) _exit(104);
  kill(getpid(), SIGTERM);
  stop.WaitForDrained(seconds(3600));
  _exit(kOrderly);
}

TEST_F(StopSignalTest, SignalEndsTheGraceOfADrain) {
  EXPECT_EXIT(DrainThenSignal(), ::testing::ExitedWithCode(kOrderly), "");
}

[[noreturn]] void DrainToTheEnd() {
  StopSignal stop(seconds(60), Logger::Null(), []() {});
  stop.RequestDrain(seconds(3600));
  stop.RequestDrain(seconds(1));  // the first one stands
  if (stop.WaitForRequest() != seconds(3600)) _exit(105);
  std::thread engine([&stop]() { stop.NotifyDrained(); });
  stop.WaitForDrained(seconds(3600));
  engine.join();
  _exit(kOrderly);
}

TEST_F(StopSignalTest, DrainEndsWhenNothingRunsAnyMore) {
  EXPECT_EXIT(DrainToTheEnd(), ::testing::ExitedWithCode(kOrderly), "");
}

}  // namespace
}  // namespace moelight
