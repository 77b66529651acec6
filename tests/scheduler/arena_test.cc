// Goal: pieces of an arena are aligned, zeroed and never overlap; too much is our own bug.
#include "engine/memory/arena.h"

#include <cstring>

#include <gtest/gtest.h>

namespace moelight {
namespace {

TEST(ArenaTest, PiecesAreAlignedZeroedAndDisjoint) {
  auto arena = Arena::Create("test", 4096);
  ASSERT_TRUE(arena.ok());
  char* previous_end = nullptr;
  for (int64_t bytes : {1, 63, 64, 65, 0, 200}) {
    char* piece = static_cast<char*>((*arena)->Allocate(bytes));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(piece) % Arena::kAlignment, 0u);
    EXPECT_GE(piece, previous_end);
    for (int64_t i = 0; i < bytes; ++i) EXPECT_EQ(piece[i], 0);
    std::memset(piece, 1, bytes);
    previous_end = piece + bytes;
  }
}

TEST(ArenaDeathTest, AskingForMoreThanWasCreatedIsABug) {
  auto arena = Arena::Create("small", 64);
  ASSERT_TRUE(arena.ok());
  EXPECT_DEATH((*arena)->Allocate(65), "arena small is too small");
}

TEST(ArenaTest, ImpossibleSizeNamesTheArena) {
  auto arena = Arena::Create("the KV cache", int64_t{1} << 60);
  ASSERT_FALSE(arena.ok());
  EXPECT_EQ(arena.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(arena.status().message().find("for the KV cache"), std::string::npos);
}

}  // namespace
}  // namespace moelight
