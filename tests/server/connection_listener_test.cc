// Goal: limits in all and per peer hold, places come back, and a listener without descriptors
// recovers.
#include "server/connection_listener.h"

#include <poll.h>
#include <unistd.h>

#include <map>
#include <string>
#include <thread>
#include <vector>

#include <absl/strings/str_cat.h>
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "engine/base/mutex.h"
#include "tests/server/daemon_fixture.h"

namespace moelight {
namespace {

// A listener whose connections are kept by the test, as gRPC would.
class ConnectionListenerTest : public ::testing::Test {
 protected:
  void Start(const ConnectionLimits& limits) {
    ConnectionListenerOptions options;
    options.address = "127.0.0.1:0";
    options.limits = limits;
    options.on_connection = [this](int fd) {
      MutexLock lock(&mutex_);
      taken_.emplace_back(fd);
    };
    options.on_refused = [this](absl::string_view reason) {
      MutexLock lock(&mutex_);
      ++refused_[std::string(reason)];
    };
    auto listener = ConnectionListener::Bind(std::move(options));
    ASSERT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
    listener_->Start();
  }

  // From 127.0.0.`host`.
  Descriptor Connect(int host = 1) {
    Descriptor fd(socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in from = {};
    from.sin_family = AF_INET;
    from.sin_addr.s_addr = htonl(0x7f000000 + host);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&from), sizeof(from)), 0);
    sockaddr_in to = from;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(listener_->port());
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
    return fd;
  }

  // Whether the other end closed it.
  static bool IsClosed(const Descriptor& fd) {
    pollfd readable = {fd.get(), POLLIN, 0};
    char byte = 0;
    return poll(&readable, 1, 10'000) == 1 && recv(fd.get(), &byte, 1, 0) <= 0;
  }

  int64_t num_refused(const std::string& reason) {
    MutexLock lock(&mutex_);
    return refused_[reason];
  }

  Mutex mutex_;
  std::vector<Descriptor> taken_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int64_t> refused_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<ConnectionListener> listener_;  // goes first: its thread uses the others
};

TEST_F(ConnectionListenerTest, WhatIsBeyondALimitIsClosedAndPlacesComeBack) {
  Start({.total = 4, .per_peer = 2});
  std::vector<Descriptor> clients;
  for (int host : {1, 1, 2, 2}) clients.push_back(Connect(host));
  ASSERT_TRUE(Eventually([&]() { return listener_->num_connections() == 4; }));
  EXPECT_TRUE(IsClosed(Connect(3)));
  EXPECT_EQ(num_refused("total"), 1);
  clients.erase(clients.begin() + 2);  // one of the second peer: the client hangs up
  ASSERT_TRUE(Eventually([&]() { return listener_->num_connections() == 3; }));
  EXPECT_TRUE(IsClosed(Connect(1)));
  EXPECT_EQ(num_refused("per_peer"), 1);
  clients.push_back(Connect(2));
  EXPECT_TRUE(Eventually([&]() { return listener_->num_connections() == 4; }));
}

TEST_F(ConnectionListenerTest, AConnectionThatTheServerShutsDownGivesItsPlaceBack) {
  Start({.total = 1, .per_peer = 1});
  const Descriptor first = Connect();
  ASSERT_TRUE(Eventually([&]() { return listener_->num_connections() == 1; }));
  {
    MutexLock lock(&mutex_);
    shutdown(taken_[0].get(), SHUT_RDWR);
    taken_.clear();
  }
  EXPECT_TRUE(IsClosed(first));
  EXPECT_TRUE(Eventually([&]() { return listener_->num_connections() == 0; }));
  const Descriptor second = Connect();
  EXPECT_TRUE(Eventually([&]() { return listener_->num_connections() == 1; }));
}

TEST_F(ConnectionListenerTest, NewLimitsHoldForNewConnections) {
  Start({.total = 1, .per_peer = 1});
  const Descriptor first = Connect();
  EXPECT_TRUE(IsClosed(Connect()));
  listener_->SetLimits({.total = 2, .per_peer = 2});
  const Descriptor second = Connect();
  EXPECT_TRUE(Eventually([&]() { return listener_->num_connections() == 2; }));
}

// CVE-2023-4785: gRPC's own listener stops for good here.
TEST_F(ConnectionListenerTest, AListenerWithoutDescriptorsRecovers) {
  Start({.total = 1000, .per_peer = 1000});
  const Descriptor first = Connect();
  ASSERT_TRUE(Eventually([&]() { return listener_->num_connections() == 1; }));
  std::vector<Descriptor> clients;
  for (int i = 0; i < 4; ++i) clients.emplace_back(socket(AF_INET, SOCK_STREAM, 0));
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  // From here on no new descriptor can be had.
  const int lowest_free = dup(0);
  close(lowest_free);
  const rlimit none = {static_cast<rlim_t>(lowest_free), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(listener_->port());
  for (const Descriptor& client : clients) {
    EXPECT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
  }
  EXPECT_TRUE(Eventually([&]() { return num_refused("descriptors") >= 4; }));
  for (const Descriptor& client : clients) EXPECT_TRUE(IsClosed(client));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  const Descriptor later = Connect();
  EXPECT_TRUE(Eventually([&]() { return listener_->num_connections() == 2; }));
}

TEST(ConnectionListenerBindTest, BadAddressesAreErrors) {
  for (const char* address : {"nowhere.invalid:1", "192.0.2.1:1", "127.0.0.1:99999"}) {
    ConnectionListenerOptions options;
    options.address = address;
    EXPECT_FALSE(ConnectionListener::Bind(std::move(options)).ok()) << address;
  }
}

TEST(ConnectionListenerBindTest, AllAddressesOfANameShareOnePort) {
  ConnectionListenerOptions options;
  options.address = "localhost:0";
  const auto listener = ConnectionListener::Bind(std::move(options));
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_GT((*listener)->port(), 0);
}

}  // namespace
}  // namespace moelight
