// Goal: the first Ctrl-C asks to stop, an impatient second one ends the process.
#include "client/interrupts.h"

#include <unistd.h>

#include <gtest/gtest.h>

#include "client/retry.h"

namespace moelight::client {
namespace {

constexpr int kStopped = 7;

// Ends the process with kStopped once a stop was requested.
void ExitWhenStopped(const Interrupts& interrupts) {
  if (!WaitUnlessStopped(absl::Seconds(20), interrupts.token())) _exit(kStopped);
}

class InterruptsDeathTest : public ::testing::TestWithParam<int> {
 protected:
  // The child must have no threads that would take the signal.
  void SetUp() override { ::testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};

TEST_P(InterruptsDeathTest, TheFirstSignalIsAStopRequest) {
  EXPECT_EXIT(
      {
        Interrupts interrupts;
        kill(getpid(), GetParam());
        kill(getpid(), GetParam());
        ExitWhenStopped(interrupts);
      },
      ::testing::ExitedWithCode(kStopped), "");
}

TEST_P(InterruptsDeathTest, ALaterOneEndsTheProcess) {
  EXPECT_EXIT(
      {
        signal(GetParam(), SIG_IGN);  // as in a shell's background job
        Interrupts interrupts(std::chrono::milliseconds(0));
        kill(getpid(), GetParam());
        WaitUnlessStopped(absl::Seconds(20), interrupts.token());
        kill(getpid(), GetParam());
        WaitUnlessStopped(absl::Seconds(20), {});
      },
      ::testing::KilledBySignal(GetParam()), "");
}

INSTANTIATE_TEST_SUITE_P(Signals, InterruptsDeathTest, ::testing::Values(SIGINT, SIGTERM));

TEST(InterruptsTest, EndsWithoutASignal) { EXPECT_FALSE(Interrupts().token().stop_requested()); }

}  // namespace
}  // namespace moelight::client
