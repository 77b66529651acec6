#include "server/connection_listener.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <absl/strings/str_cat.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "server/config_values.h"

namespace moelight {
namespace {

constexpr int kBacklog = 1024;
constexpr int kEventsPerWait = 64;
// Then hang-ups have their turn, however many knock.
constexpr int kMaxAcceptsPerRound = 256;
// With no descriptor left at all, not even the reserve, a listener rests for this long.
constexpr int kRestMs = 100;
constexpr size_t kIpv6NetworkBytes = 8;  // a /64 is what one customer has

// What counts as one peer.
std::string PeerOf(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return std::string(reinterpret_cast<const char*>(&v4.sin_addr), sizeof(v4.sin_addr));
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  const char* bytes = reinterpret_cast<const char*>(v6.sin6_addr.s6_addr);
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) return std::string(bytes + 12, 4);
  return std::string(bytes, kIpv6NetworkBytes);
}

int PortOf(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.ss_family == AF_INET
                   ? reinterpret_cast<const sockaddr_in&>(address).sin_port
                   : reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
}

Descriptor OpenReserve() { return Descriptor(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

bool Watch(const Descriptor& epoll, int fd, uint32_t events) {
  epoll_event event = {};
  event.events = events;
  event.data.fd = fd;
  return epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

}  // namespace

Descriptor::~Descriptor() { Close(); }

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    Close();
    fd_ = other.Release();
  }
  return *this;
}

int Descriptor::Release() { return std::exchange(fd_, -1); }

void Descriptor::Close() {
  if (fd_ >= 0) close(Release());
}

ConnectionListener::ConnectionListener(ConnectionListenerOptions options)
    : options_(std::move(options)),
      max_total_(options_.limits.total),
      max_per_peer_(options_.limits.per_peer) {}

absl::StatusOr<std::unique_ptr<ConnectionListener>> ConnectionListener::Bind(
    ConnectionListenerOptions options) {
  auto listener = std::unique_ptr<ConnectionListener>(new ConnectionListener(std::move(options)));
  RETURN_IF_ERROR(listener->Open());
  return listener;
}

ConnectionListener::~ConnectionListener() { Stop(); }

absl::Status ConnectionListener::Open() {
  ASSIGN_OR_RETURN(const HostPort address, ParseHostPort(options_.address));
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error =
      getaddrinfo(address.host.c_str(), absl::StrCat(address.port).c_str(), &hints, &found);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options_.address, ": ", gai_strerror(error)));
  }
  absl::Status status;
  for (const addrinfo* one = found; one != nullptr && status.ok(); one = one->ai_next) {
    status = Listen(*one);
  }
  freeaddrinfo(found);
  RETURN_IF_ERROR(status);
  epoll_ = Descriptor(epoll_create1(EPOLL_CLOEXEC));
  wake_ = Descriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  reserve_ = OpenReserve();
  if (!epoll_.is_open() || !wake_.is_open() || !reserve_.is_open()) {
    return absl::UnavailableError(absl::StrCat("cannot listen: ", std::strerror(errno)));
  }
  CHECK(Watch(epoll_, wake_.get(), EPOLLIN)) << std::strerror(errno);
  for (const Descriptor& listener : listeners_) {
    CHECK(Watch(epoll_, listener.get(), EPOLLIN)) << std::strerror(errno);
  }
  return absl::OkStatus();
}

absl::Status ConnectionListener::Listen(const addrinfo& address) {
  Descriptor fd(socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1;
  // A restarted daemon must not wait for connections of the last one; two at once on one address
  // remain impossible.
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (address.ai_family == AF_INET6) {
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  }
  sockaddr_storage bound = {};
  std::memcpy(&bound, address.ai_addr, address.ai_addrlen);
  // All addresses of a name share the port that the first got.
  if (port_ != 0) {
    (bound.ss_family == AF_INET ? reinterpret_cast<sockaddr_in&>(bound).sin_port
                                : reinterpret_cast<sockaddr_in6&>(bound).sin6_port) = htons(port_);
  }
  if (!fd.is_open() ||
      bind(fd.get(), reinterpret_cast<sockaddr*>(&bound), address.ai_addrlen) != 0 ||
      listen(fd.get(), kBacklog) != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options_.address, ": ", std::strerror(errno)));
  }
  port_ = PortOf(fd.get());
  listeners_.push_back(std::move(fd));
  return absl::OkStatus();
}

void ConnectionListener::Start() {
  CHECK(!thread_.joinable());
  thread_ = std::thread([this]() { Run(); });
}

void ConnectionListener::Stop() {
  if (thread_.joinable()) {
    CHECK_EQ(eventfd_write(wake_.get(), 1), 0);
    thread_.join();
  }
  listeners_.clear();
}

void ConnectionListener::SetLimits(const ConnectionLimits& limits) {
  max_total_.store(limits.total, std::memory_order_relaxed);
  max_per_peer_.store(limits.per_peer, std::memory_order_relaxed);
}

void ConnectionListener::Run() {
  std::array<epoll_event, kEventsPerWait> events;
  while (true) {
    const int count = epoll_wait(epoll_.get(), events.data(), events.size(), -1);
    CHECK(count >= 0 || errno == EINTR) << std::strerror(errno);
    // Ends first: they make room for what is accepted in the same round.
    for (int i = 0; i < count; ++i) {
      if (connections_.contains(events[i].data.fd)) Forget(events[i].data.fd);
    }
    for (int i = 0; i < count; ++i) {
      if (events[i].data.fd == wake_.get()) return;
      for (const Descriptor& listener : listeners_) {
        if (listener.get() == events[i].data.fd) AcceptAll(listener.get());
      }
    }
  }
}

void ConnectionListener::AcceptAll(int listener) {
  for (int i = 0; i < kMaxAcceptsPerRound; ++i) {
    sockaddr_storage address = {};
    socklen_t size = sizeof(address);
    const int fd = accept4(listener, reinterpret_cast<sockaddr*>(&address), &size,
                           SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      Admit(fd, PeerOf(address));
    } else if (!OnAcceptError(listener, errno)) {
      return;
    }
  }
}

bool ConnectionListener::OnAcceptError(int listener, int error) {
  // What went wrong with one connection says nothing about the next (accept(2), "Error handling").
  if (error == EAGAIN || error == EWOULDBLOCK) return false;
  if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM) return true;
  options_.on_refused(kRefusedDescriptors);
  reserve_.Close();
  Descriptor turned_away(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  const bool accepted = turned_away.is_open();
  turned_away.Close();  // the reserve needs its descriptor
  reserve_ = OpenReserve();
  if (accepted && reserve_.is_open()) return true;
  pollfd stop = {wake_.get(), POLLIN, 0};
  poll(&stop, 1, kRestMs);
  return false;
}

void ConnectionListener::Admit(int fd, const std::string& peer) {
  Descriptor connection(fd);
  const auto held = static_cast<int32_t>(connections_.size());
  int32_t& of_peer = num_of_peer_[peer];
  Descriptor duplicate;
  absl::string_view refused;
  if (held >= max_total_.load(std::memory_order_relaxed)) {
    refused = kRefusedTotal;
  } else if (of_peer >= max_per_peer_.load(std::memory_order_relaxed)) {
    refused = kRefusedPerPeer;
  } else {
    duplicate = Descriptor(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    // Hang-ups are always told; nothing else is of interest.
    if (!duplicate.is_open() || !Watch(epoll_, duplicate.get(), EPOLLRDHUP)) {
      refused = kRefusedDescriptors;
    }
  }
  if (!refused.empty()) {
    if (of_peer == 0) num_of_peer_.erase(peer);
    options_.on_refused(refused);
    return;
  }
  ++of_peer;
  const int key = duplicate.get();
  connections_.emplace(key, Connection{std::move(duplicate), peer});
  num_connections_.store(static_cast<int64_t>(connections_.size()), std::memory_order_relaxed);
  options_.on_connection(connection.Release());
}

void ConnectionListener::Forget(int duplicate) {
  const auto found = connections_.find(duplicate);
  // Closing the duplicate would not end the watch: gRPC may still hold the socket.
  CHECK_EQ(epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, duplicate, nullptr), 0);
  const auto peer = num_of_peer_.find(found->second.peer);
  if (--peer->second == 0) num_of_peer_.erase(peer);
  connections_.erase(found);
  num_connections_.store(static_cast<int64_t>(connections_.size()), std::memory_order_relaxed);
}

int64_t RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlimit raised = {limit.rlim_max, limit.rlim_max};
  if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  return static_cast<int64_t>(limit.rlim_cur);
}

}  // namespace moelight
