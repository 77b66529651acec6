// Weight formats give back what was packed, whatever the parts, and keep their padding zero.
#include "engine/backend/weight_format.h"

#include <cstring>
#include <tuple>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include "engine/backend/formats/bf16_tiled.h"
#include "tests/backend/op_harness.h"

namespace moelight {
namespace {

struct Shape {
  int64_t rows, cols;
};

class WeightFormatTest
    : public testing::TestWithParam<std::tuple<const WeightFormat*, Shape, DType>> {};

// `matrix` as a tensor of another dtype.
std::vector<char> Encode(const Matrix& matrix, DType dtype) {
  std::vector<char> bytes(matrix.values.size() * DTypeBytes(dtype));
  for (size_t i = 0; i < matrix.values.size(); ++i) {
    const float value = matrix.values[i];
    if (dtype == DType::kF32) {
      std::memcpy(&bytes[4 * i], &value, 4);
    } else {
      // Small whole numbers, whose halves are simple: 1.m * 2^e.
      int exponent = 0;
      const float mantissa = std::frexp(std::abs(value), &exponent);
      const uint16_t sign = value < 0 ? 0x8000 : 0;
      const uint16_t half =
          value == 0 ? 0
                     : static_cast<uint16_t>(sign | ((exponent + 14) << 10) |
                                             static_cast<int>((mantissa * 2 - 1) * 1024));
      const uint16_t bits = dtype == DType::kBF16 ? BFloat16::FromFloat(value).bits : half;
      std::memcpy(&bytes[2 * i], &bits, 2);
    }
  }
  return bytes;
}

TEST_P(WeightFormatTest, GivesBackWhatWasPackedInParts) {
  const auto& [format, shape, dtype] = GetParam();
  Matrix source(shape.rows, shape.cols);
  for (size_t i = 0; i < source.values.size(); ++i) {
    source.values[i] = static_cast<float>(static_cast<int>(i * 37 % 255) - 127);
  }
  // One byte in, as a tensor in a checkpoint file may begin anywhere.
  std::vector<char> encoded = Encode(source, dtype);
  encoded.insert(encoded.begin(), '\0');
  const int64_t bytes = format->bytes(shape.rows, shape.cols);
  EXPECT_EQ(bytes % 64, 0);
  std::vector<char> packed(bytes, '\0');
  const int64_t cut = shape.rows / 3;
  const int64_t row_bytes = shape.cols * DTypeBytes(dtype);
  format->pack(
      TensorView::Make(encoded.data() + 1 + cut * row_bytes, dtype, {shape.rows - cut, shape.cols}),
      cut, shape.rows, packed.data());
  format->pack(TensorView::Make(encoded.data() + 1, dtype, {cut, shape.cols}), 0, shape.rows,
               packed.data());
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t col = 0; col < shape.cols; ++col) {
      ASSERT_EQ(format->get(packed.data(), shape.rows, shape.cols, row, col),
                source.values[row * shape.cols + col])
          << row << ", " << col;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, WeightFormatTest,
                         testing::Combine(testing::ValuesIn(WeightFormats().begin(),
                                                            WeightFormats().end()),
                                          testing::Values(Shape{1, 1}, Shape{3, 7}, Shape{16, 2},
                                                          Shape{17, 33}, Shape{48, 40}),
                                          testing::Values(DType::kF32, DType::kBF16, DType::kF16)),
                         [](const auto& info) {
                           const Shape shape = std::get<1>(info.param);
                           return absl::StrCat(std::get<0>(info.param)->name, "_", shape.rows, "x",
                                               shape.cols, "_", DTypeName(std::get<2>(info.param)));
                         });

TEST(WeightFormatsTest, AreFoundByName) {
  EXPECT_EQ(FindWeightFormat("bf16_tiled"), &kBf16TiledFormat);
  EXPECT_EQ(FindWeightFormat("bf17"), nullptr);
}

TEST(Bf16TiledTest, LiesInPairsOfColumnsWithinTilesOf16Rows) {
  Matrix source(17, 3);
  for (int64_t i = 0; i < 51; ++i) source.values[i] = static_cast<float>(i);
  const PackedWeight packed(kBf16TiledFormat, source);
  const auto* data = static_cast<const BFloat16*>(packed.matrix().data);
  EXPECT_EQ(data[0].ToFloat(), 0.0f);
  EXPECT_EQ(data[1].ToFloat(), 1.0f);           // row 0, column 1
  EXPECT_EQ(data[2].ToFloat(), 3.0f);           // row 1, column 0
  EXPECT_EQ(data[32].ToFloat(), 2.0f);          // row 0, column 2
  EXPECT_EQ(data[33].ToFloat(), 0.0f);          // padding
  EXPECT_EQ(data[2 * 32].ToFloat(), 48.0f);     // row 16, column 0
  EXPECT_EQ(data[2 * 32 + 2].ToFloat(), 0.0f);  // padding
  EXPECT_EQ(kBf16TiledFormat.bytes(17, 3), 4 * 64);
}

TEST(WeightFormatDeathTest, RefusesRowsThatDoNotFit) {
  Matrix source(3, 2);
  float packed[16] = {};
  EXPECT_DEATH(FindWeightFormat("f32")->pack(source.view(), 2, 4, packed), "rows \\[2, 5\\) of 4");
}

}  // namespace
}  // namespace moelight
