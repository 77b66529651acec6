// Goal: the macros return early with the error, and pass values on, also those that only move.
#include "engine/base/status_macros.h"

#include <memory>

#include <gtest/gtest.h>

namespace moelight {
namespace {

absl::StatusOr<std::unique_ptr<int>> Make(bool ok) {
  if (!ok) return absl::NotFoundError("none");
  return std::make_unique<int>(3);
}

absl::StatusOr<int> Use(bool first_ok, bool second_ok) {
  RETURN_IF_ERROR(Make(first_ok).status());
  ASSIGN_OR_RETURN(std::unique_ptr<int> a, Make(second_ok));
  ASSIGN_OR_RETURN(const std::unique_ptr<int> b, Make(true));
  return *a + *b;
}

TEST(StatusMacrosTest, ReturnEarlyOrGoOn) {
  EXPECT_EQ(*Use(true, true), 6);
  EXPECT_EQ(Use(false, true).status().message(), "none");
  EXPECT_EQ(Use(true, false).status().message(), "none");
}

}  // namespace
}  // namespace moelight
