#ifndef CONCORDAT_COMMON_SHARED_VALUE_H_
#define CONCORDAT_COMMON_SHARED_VALUE_H_

#include <memory>
#include <utility>

namespace concordat {

/// A value whose copies are one object until one of them is changed: for what many messages repeat. Reading
/// from several threads at once is safe, also of copies; Change is not, like any change of a plain value.
template <typename T>
class SharedValue {
 public:
  SharedValue() : value_(std::make_shared<T>()) {}
  SharedValue(T value) : value_(std::make_shared<T>(std::move(value))) {}  // NOLINT: stands for the value

  const T& operator*() const { return *value_; }
  const T* operator->() const { return value_.get(); }
  /// The value, apart from that of all copies.
  T& Change() {
    if (value_.use_count() != 1) value_ = std::make_shared<T>(std::as_const(*value_));
    return *value_;
  }
  friend bool operator==(const SharedValue& a, const SharedValue& b) {
    return a.value_ == b.value_ || *a.value_ == *b.value_;
  }

 private:
  std::shared_ptr<T> value_;  // never null, but in what was moved from
};

}  // namespace concordat

#endif  // CONCORDAT_COMMON_SHARED_VALUE_H_
