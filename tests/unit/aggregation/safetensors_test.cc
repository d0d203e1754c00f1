#include "aggregation/safetensors.h"

#include <gtest/gtest.h>

namespace concordat {
namespace {

/// A file with `header` as it stands and `data_bytes` bytes of data.
Bytes File(std::string_view header, size_t data_bytes) {
  Bytes out;
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<uint8_t>(uint64_t{header.size()} >> (8 * i)));
  out.insert(out.end(), header.begin(), header.end());
  for (size_t i = 0; i < data_bytes; ++i) out.push_back(static_cast<uint8_t>(i));
  return out;
}

void ExpectRefused(const Bytes& file, std::string_view what) {
  const auto read = ReadSafetensors(file);
  ASSERT_FALSE(read.ok()) << what;
  EXPECT_EQ(read.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(Message(read.status()).find(what), std::string_view::npos) << read.status();
}

TEST(SafetensorsTest, ReadsBackWhatItWrote) {
  const Bytes a = {1, 2, 3, 4, 5, 6, 7, 8}, b = {9, 10};
  const auto file = WriteSafetensors(
      {{"z", "F32", {2, 1}, a}, {"a", "BF16", {1}, b}, {"e", "I64", {0, 5}, {}}}, {{"round", "7"}});
  ASSERT_TRUE(file.ok()) << file.status();
  const auto read = ReadSafetensors(*file);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 3u);
  EXPECT_EQ((*read)[0].name, "a");
  EXPECT_EQ(ToBytes((*read)[0].data), b);
  EXPECT_EQ((*read)[1].name, "e");
  EXPECT_EQ((*read)[1].shape, (std::vector<uint64_t>{0, 5}));
  EXPECT_EQ((*read)[2].dtype, "F32");
  EXPECT_EQ((*read)[2].shape, (std::vector<uint64_t>{2, 1}));
  EXPECT_EQ(ToBytes((*read)[2].data), a);
  EXPECT_NE(AsText(*file).find(R"("__metadata__":{"round":"7","format":"pt"})"), std::string_view::npos);
}

TEST(SafetensorsTest, WritesTheSameBytesForTheSameInputAndAlignsData) {
  const Bytes a = {1, 2, 3, 4};
  const auto one = WriteSafetensors({{"x", "F32", {1}, a}}, {{"k", "v"}});
  const auto two = WriteSafetensors({{"x", "F32", {1}, a}}, {{"k", "v"}});
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_EQ(*one, *two);
  EXPECT_EQ((one->size() - 4) % 8, 0u);
}

TEST(SafetensorsTest, ReadsAScalarAndUnorderedHeaders) {
  const auto file = File(
      R"({"b":{"shape":[2],"data_offsets":[4,6],"dtype":"U8"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
      6);
  const auto read = ReadSafetensors(file);  // what it gives points into the file
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ((*read)[0].name, "a");
  EXPECT_EQ((*read)[1].data[0], 4);
}

TEST(SafetensorsTest, RefusesEveryTruncation) {
  const Bytes a = {1, 2, 3, 4, 5, 6, 7, 8};
  const auto file = WriteSafetensors({{"x", "F32", {2}, a}}, {});
  ASSERT_TRUE(file.ok());
  for (size_t n = 0; n < file->size(); ++n) {
    EXPECT_EQ(ReadSafetensors(ByteView(*file).first(n)).status().code(), StatusCode::kInvalidArgument) << n;
  }
}

TEST(SafetensorsTest, RefusesHeaderLengthsThatLie) {
  Bytes file = File("{}", 0);
  file[7] = 0xff;
  ExpectRefused(file, "header length");
  Bytes huge(8 + 100);
  huge[3] = 0x10;  // 268 MB
  ExpectRefused(huge, "header length");
  ExpectRefused(File("", 0), "JSON object");
}

TEST(SafetensorsTest, RefusesDuplicates) {
  const std::string x = R"("x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  ExpectRefused(File("{" + x + "," + x + "}", 1), "'x': appears twice");
  ExpectRefused(File(R"({"x":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1),
                "a field twice");
  ExpectRefused(File(R"({"__metadata__":{"a":"1","a":"2"}})", 0), "metadata key twice");
  ExpectRefused(File(R"({"__metadata__":{},"__metadata__":{}})", 0), "__metadata__ twice");
}

TEST(SafetensorsTest, RefusesOverlapsHolesAndBytesLeftOver) {
  const char* kTwo =
      R"({{"x":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}},"y":{{"dtype":"U8","shape":[2],"data_offsets":[{},{}]}}}})";
  EXPECT_TRUE(ReadSafetensors(File(fmt::format(fmt::runtime(kTwo), 2, 4), 4)).ok());
  ExpectRefused(File(fmt::format(fmt::runtime(kTwo), 1, 3), 3), "overlap");
  ExpectRefused(File(fmt::format(fmt::runtime(kTwo), 3, 5), 5), "hole");
  ExpectRefused(File(fmt::format(fmt::runtime(kTwo), 2, 4), 5), "belong to no tensor");
  ExpectRefused(File(fmt::format(fmt::runtime(kTwo), 2, 4), 3), "outside");
  ExpectRefused(File(fmt::format(fmt::runtime(kTwo), 4, 2), 4), "outside");
}

TEST(SafetensorsTest, RefusesShapesThatDoNotMatchOrOverflow) {
  ExpectRefused(File(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4), "'x': shape needs 8");
  ExpectRefused(File(R"({"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0),
                "overflows");
  ExpectRefused(File(R"({"x":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4),
                "dimensions");
}

TEST(SafetensorsTest, RefusesWhatIsNotTheFormat) {
  ExpectRefused(File("[1]", 0), "JSON object");
  ExpectRefused(File("{", 0), "not valid JSON");
  ExpectRefused(File("{} x", 0), "not valid JSON");
  ExpectRefused(File(R"({"x":1})", 0), "number");
  ExpectRefused(File(R"({"x":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", 4), "unknown dtype");
  ExpectRefused(File(R"({"x":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1), "negative");
  ExpectRefused(File(R"({"x":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}})", 1), "fraction");
  ExpectRefused(File(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1), "two numbers");
  ExpectRefused(File(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}})", 1), "two numbers");
  ExpectRefused(File(R"({"x":{"dtype":"U8","data_offsets":[0,1]}})", 1), "expected dtype, shape");
  ExpectRefused(File(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":"1"}})", 1),
                "unknown field");
  ExpectRefused(File(R"({"__metadata__":{"a":1}})", 0), "number");
  ExpectRefused(File("{\"\xff\":{}}", 0), "not valid JSON");
  ExpectRefused(File(std::string(1000, '{'), 0), "not valid JSON");
}

TEST(SafetensorsTest, RefusesToWriteWhatItWouldNotRead) {
  const Bytes a = {1, 2, 3, 4};
  EXPECT_FALSE(WriteSafetensors({{"x", "F32", {1}, a}, {"x", "F32", {1}, a}}, {}).ok());
  EXPECT_FALSE(WriteSafetensors({{"x", "F32", {2}, a}}, {}).ok());
  EXPECT_FALSE(WriteSafetensors({{"x", "FP4", {1}, a}}, {}).ok());
  EXPECT_FALSE(WriteSafetensors({{"__metadata__", "F32", {1}, a}}, {}).ok());
  EXPECT_FALSE(WriteSafetensors({{"\xff", "F32", {1}, a}}, {}).ok());
}

}  // namespace
}  // namespace concordat
