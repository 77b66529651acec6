// Goal: the queue between threads keeps order, holds its bound and never loses an item.
#include "engine/base/bounded_queue.h"

#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace moelight {
namespace {

TEST(BoundedQueueTest, KeepsOrderAndBound) {
  BoundedQueue<int> queue(2);
  EXPECT_TRUE(queue.TryPush(1));
  EXPECT_TRUE(queue.TryPush(2));
  EXPECT_FALSE(queue.TryPush(3));
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_EQ(queue.Pop(), 1);
  EXPECT_EQ(queue.TryPop(), 2);
  EXPECT_EQ(queue.TryPop(), std::nullopt);
}

TEST(BoundedQueueTest, RefusedItemIsLeftUntouched) {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  EXPECT_TRUE(queue.TryPush(std::make_unique<int>(1)));
  auto item = std::make_unique<int>(2);
  EXPECT_FALSE(queue.TryPush(std::move(item)));
  ASSERT_NE(item, nullptr);
  EXPECT_EQ(*item, 2);
}

TEST(BoundedQueueTest, CloseRefusesNewItemsAndGivesOutOldOnes) {
  BoundedQueue<int> queue(4);
  EXPECT_TRUE(queue.TryPush(7));
  queue.Close();
  EXPECT_FALSE(queue.TryPush(8));
  EXPECT_EQ(queue.Pop(), 7);
  EXPECT_EQ(queue.Pop(), std::nullopt);
}

TEST(BoundedQueueTest, CloseWakesAWaitingConsumer) {
  BoundedQueue<int> queue(1);
  std::thread consumer([&queue]() { EXPECT_EQ(queue.Pop(), std::nullopt); });
  queue.Close();
  consumer.join();
}

TEST(BoundedQueueTest, EveryItemArrivesOnce) {
  constexpr int kNumItems = 2000;
  BoundedQueue<int> queue(8);
  std::vector<int> seen(kNumItems, 0);
  Mutex mutex;
  auto consume = [&]() {
    while (std::optional<int> item = queue.Pop()) {
      MutexLock lock(&mutex);
      ++seen[*item];
    }
  };
  std::thread consumer_a(consume);
  std::thread consumer_b(consume);
  for (int i = 0; i < kNumItems; ++i) {
    while (!queue.TryPush(int{i})) std::this_thread::yield();
  }
  queue.Close();
  consumer_a.join();
  consumer_b.join();
  EXPECT_EQ(seen, std::vector<int>(kNumItems, 1));
}

}  // namespace
}  // namespace moelight
