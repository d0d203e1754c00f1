#include "worker/train/ops.h"

#include "worker/train/cpu_kernels.h"
#include "worker/train/torch_pch.h"

namespace concordat::train {
namespace {

/// Calls `body` with a null pointer of the kernel's element type, which stands for the type.
template <typename F>
void WithType(const at::Tensor& t, F body) {
  if (t.scalar_type() == at::kFloat) {
    body(static_cast<float*>(nullptr));
  } else {
    TORCH_CHECK(t.scalar_type() == at::kBFloat16, "no kernel for this element type");
    body(static_cast<cpu::Bf16*>(nullptr));
  }
}

/// Address of row `row` as the kernel's element type.
template <typename T>
T* Row(const at::Tensor& t, int64_t row) {
  return static_cast<T*>(t.data_ptr()) + row * t.stride(0);
}

template <typename T>
T* At(const at::Tensor& t, int64_t index) {
  return static_cast<T*>(t.data_ptr()) + index;
}

/// Rows in static shares, one per thread. A share below `grain` rows is not worth waking a thread.
template <typename F>
void OverRows(int64_t rows, int64_t width, F body) {
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(width, 1));
  at::parallel_for(0, rows, grain, body);
}

}  // namespace

void Ops::RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps, const at::Tensor& out,
                  const at::Tensor& rstd) const {
  if (!kernels) {
    const at::Tensor wide = x.to(at::kFloat);
    const at::Tensor inverse = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
    rstd.copy_(inverse.squeeze(-1));
    out.copy_(wide * inverse * weight);
    return;
  }
  WithType(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    OverRows(x.size(0), x.size(1), [&](int64_t begin, int64_t end) {
      cpu::RmsNorm(Row<T>(x, begin), x.stride(0), At<float>(weight, 0), static_cast<float>(eps),
                   Row<T>(out, begin), out.stride(0), At<float>(rstd, begin), end - begin, x.size(1));
    });
  });
}

void Ops::RmsNormBackward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                          const at::Tensor& dy, const at::Tensor& dx, const at::Tensor& normed) const {
  if (!kernels) {
    const at::Tensor unit = x.to(at::kFloat) * rstd.unsqueeze(-1);
    const at::Tensor g = dy.to(at::kFloat) * weight;
    const at::Tensor mean = (g * unit).mean(-1, /*keepdim=*/true);
    normed.copy_(unit * weight);
    dx.copy_(dx.to(at::kFloat) + (g - unit * mean) * rstd.unsqueeze(-1));
    return;
  }
  WithType(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    OverRows(x.size(0), x.size(1), [&](int64_t begin, int64_t end) {
      cpu::RmsNormBackward(Row<T>(x, begin), x.stride(0), At<float>(weight, 0), At<float>(rstd, begin),
                           Row<T>(dy, begin), dy.stride(0), Row<T>(dx, begin), dx.stride(0),
                           Row<T>(normed, begin), normed.stride(0), end - begin, x.size(1));
    });
  });
}

void Ops::Rope(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine, int64_t head_dim,
               bool inverse) const {
  const int64_t rows = x.size(0);
  const int64_t heads = x.size(1) / head_dim;
  if (!kernels) {
    const at::Tensor halves = x.view({rows, heads, 2, head_dim / 2});
    const at::Tensor a = halves.select(2, 0);
    const at::Tensor b = halves.select(2, 1);
    const at::Tensor wide_a = a.to(at::kFloat).clone();
    const at::Tensor wide_b = b.to(at::kFloat).clone();
    const at::Tensor c = cosine.unsqueeze(1);
    const at::Tensor s = inverse ? -sine.unsqueeze(1) : sine.unsqueeze(1);
    a.copy_(wide_a * c - wide_b * s);
    b.copy_(wide_b * c + wide_a * s);
    return;
  }
  WithType(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    OverRows(rows, x.size(1), [&](int64_t begin, int64_t end) {
      cpu::Rope(Row<T>(x, begin), x.stride(0), Row<float>(cosine, begin), Row<float>(sine, begin), inverse,
                end - begin, heads, head_dim);
    });
  });
}

void Ops::SwiGlu(const at::Tensor& gate_up, const at::Tensor& out) const {
  const int64_t width = out.size(1);
  if (!kernels) {
    const at::Tensor gate = gate_up.narrow(1, 0, width).to(at::kFloat);
    out.copy_(at::silu(gate) * gate_up.narrow(1, width, width));
    return;
  }
  WithType(gate_up, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    OverRows(out.size(0), width, [&](int64_t begin, int64_t end) {
      cpu::SwiGlu(Row<T>(gate_up, begin), gate_up.stride(0), Row<T>(out, begin), out.stride(0), end - begin,
                  width);
    });
  });
}

void Ops::SwiGluBackward(const at::Tensor& gate_up, const at::Tensor& dout, const at::Tensor& d_gate_up,
                         const at::Tensor& out) const {
  const int64_t width = out.size(1);
  if (!kernels) {
    const at::Tensor gate = gate_up.narrow(1, 0, width).to(at::kFloat);
    const at::Tensor up = gate_up.narrow(1, width, width).to(at::kFloat);
    const at::Tensor d = dout.to(at::kFloat);
    const at::Tensor s = at::sigmoid(gate);
    const at::Tensor silu = gate * s;
    out.copy_(silu * up);
    d_gate_up.narrow(1, 0, width).copy_(d * up * s * (1 + gate * (1 - s)));
    d_gate_up.narrow(1, width, width).copy_(d * silu);
    return;
  }
  WithType(gate_up, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    OverRows(out.size(0), width, [&](int64_t begin, int64_t end) {
      cpu::SwiGluBackward(Row<T>(gate_up, begin), gate_up.stride(0), Row<T>(dout, begin), dout.stride(0),
                          Row<T>(d_gate_up, begin), d_gate_up.stride(0), Row<T>(out, begin), out.stride(0),
                          end - begin, width);
    });
  });
}

void Ops::CrossEntropy(const at::Tensor& logits, const at::Tensor& target, const at::Tensor& log_likelihood,
                       const at::Tensor& correct, bool gradient) const {
  if (!kernels) {
    const at::Tensor column = target.unsqueeze(1);
    const at::Tensor log_p = at::log_softmax(logits.to(at::kFloat), -1);
    log_likelihood.copy_(log_p.gather(1, column).squeeze(1));
    correct.copy_(logits.argmax(-1) == target);
    if (gradient) {
      logits.copy_(log_p.exp_().scatter_add_(1, column, at::full_like(column, -1, log_p.options())));
    }
    return;
  }
  WithType(logits, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    OverRows(logits.size(0), logits.size(1), [&](int64_t begin, int64_t end) {
      cpu::CrossEntropy(Row<T>(logits, begin), logits.stride(0), At<int64_t>(target, begin),
                        At<float>(log_likelihood, begin), At<uint8_t>(correct, begin), gradient, end - begin,
                        logits.size(1));
    });
  });
}

void Ops::Add(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out) const {
  if (!kernels) {
    at::Tensor target = out;
    at::add_out(target, a, b);
    return;
  }
  WithType(a, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    OverRows(a.size(0), a.size(1), [&](int64_t begin, int64_t end) {
      cpu::Add(Row<T>(a, begin), a.stride(0), Row<T>(b, begin), b.stride(0), Row<T>(out, begin),
               out.stride(0), end - begin, a.size(1));
    });
  });
}

void Ops::Accumulate(const at::Tensor& x, double alpha, const at::Tensor& sum) const {
  if (!kernels) {
    sum.add_(x, alpha);
    return;
  }
  WithType(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    OverRows(x.size(0), x.size(1), [&](int64_t begin, int64_t end) {
      cpu::Accumulate(Row<T>(x, begin), x.stride(0), static_cast<float>(alpha), Row<float>(sum, begin),
                      sum.stride(0), end - begin, x.size(1));
    });
  });
}

}  // namespace concordat::train
