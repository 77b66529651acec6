// Goal: CopyPages of every backend puts each page where it belongs and touches no other, for sizes
// that fit wide accesses and those that do not, in every direction.
#include <cstdlib>
#include <cstring>

#include <gtest/gtest.h>

#include "tests/backend/op_harness.h"

namespace moelight {
namespace {

constexpr int64_t kNumSrcPages = 7;
constexpr int64_t kNumDstPages = 5;

// Host memory that a device reads and writes in place.
class PinnedPages {
 public:
  PinnedPages(Backend& backend, const std::vector<char>& bytes) : size_(bytes.size()) {
    // Whole pages of the system, so that nothing else is pinned with them.
    constexpr size_t kSystemPage = 4096;
    const size_t rounded = (size_ + kSystemPage - 1) / kSystemPage * kSystemPage;
    data_.reset(static_cast<char*>(std::aligned_alloc(kSystemPage, rounded)));
    std::memcpy(data_.get(), bytes.data(), size_);
    auto pinned = backend.PinHost(data_.get(), static_cast<int64_t>(rounded));
    CHECK(pinned.ok()) << pinned.status().ToString();
    pinned_ = *std::move(pinned);
  }
  char* data() { return data_.get(); }
  std::vector<char> bytes() const { return std::vector<char>(data_.get(), data_.get() + size_); }

 private:
  struct Free {
    void operator()(char* data) const { std::free(data); }
  };
  size_t size_;
  std::unique_ptr<char, Free> data_;
  std::unique_ptr<PinnedRange> pinned_;
};

class CopyPagesTest : public testing::TestWithParam<BackendCase> {
 protected:
  // Runs the op with each side in device memory or in host memory, and returns all of dst.
  std::vector<char> Run(int64_t page_bytes, bool src_on_host, bool dst_on_host,
                        absl::Span<const PageCopy> pages) {
    Backend& backend = *tested_.backend;
    std::vector<char> src = Src(page_bytes);
    std::vector<char> dst(kNumDstPages * page_bytes, '\x55');
    PinnedPages pinned_src(backend, src);
    PinnedPages pinned_dst(backend, dst);
    DeviceCopies on(backend, *tested_.stream);
    CopyPagesArgs args;
    args.src =
        src_on_host ? pinned_src.data() : on.ReadOnly(src.data(), static_cast<int64_t>(src.size()));
    args.dst =
        dst_on_host ? pinned_dst.data() : on.Writable(dst.data(), static_cast<int64_t>(dst.size()));
    args.page_bytes = page_bytes;
    args.pages = pages;
    const absl::Status status = on.Finish(backend.CopyPages(args, *tested_.stream));
    CHECK(status.ok()) << status.ToString();
    return dst_on_host ? pinned_dst.bytes() : dst;
  }

  static std::vector<char> Src(int64_t page_bytes) {
    std::vector<char> src(kNumSrcPages * page_bytes);
    for (size_t i = 0; i < src.size(); ++i) src[i] = static_cast<char>(i * 2654435761u >> 13);
    return src;
  }

  TestBackend tested_{GetParam()};
};

TEST_P(CopyPagesTest, EveryDirection) {
  const std::vector<PageCopy> pages = {{6, 0}, {0, 4}, {3, 3}, {3, 1}};
  for (int64_t page_bytes : {4, 20, 48, 4096, 65536, 100004}) {
    const std::vector<char> src = Src(page_bytes);
    std::vector<char> expected(kNumDstPages * page_bytes, '\x55');
    for (const PageCopy& page : pages) {
      std::memcpy(&expected[page.dst_page * page_bytes], &src[page.src_page * page_bytes],
                  page_bytes);
    }
    for (bool src_on_host : {false, true}) {
      for (bool dst_on_host : {false, true}) {
        EXPECT_TRUE(Run(page_bytes, src_on_host, dst_on_host, pages) == expected)
            << "pages of " << page_bytes << " bytes, " << src_on_host << " to " << dst_on_host;
      }
    }
  }
}

TEST_P(CopyPagesTest, NoPagesIsNoWork) {
  EXPECT_TRUE(Run(64, false, true, {}) == std::vector<char>(kNumDstPages * 64, '\x55'));
  EXPECT_TRUE(tested_.backend->CopyPages({nullptr, nullptr, 64, {}}, *tested_.stream).ok());
}

INSTANTIATE_TEST_SUITE_P(All, CopyPagesTest, testing::ValuesIn(BackendCases()),
                         [](const auto& info) { return BackendCaseName(info.param); });

}  // namespace
}  // namespace moelight
