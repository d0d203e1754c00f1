# LibTorch out of the official wheel, as imported targets `concordat::torch`.
#
# The wheel's own CMake package insists on a CUDA toolkit even for a program that only uses the CPU, so the
# three libraries are named here. CUDA: where libtorch_cuda.so can be loaded (a GPU host), it is linked with
# --no-as-needed so that its kernels register; otherwise torch_cpu and c10 alone are enough.
if(NOT CONCORDAT_TORCH)
  if(DEFINED ENV{CONCORDAT_CACHE})
    set(_cache $ENV{CONCORDAT_CACHE})
  else()
    set(_cache $ENV{HOME}/.cache/concordat)
  endif()
  set(CONCORDAT_TORCH ${_cache}/torch-2.15.0/torch)
endif()
if(NOT EXISTS ${CONCORDAT_TORCH}/include/torch/csrc/api/include/torch/torch.h)
  message(FATAL_ERROR "no LibTorch at ${CONCORDAT_TORCH}: run scripts/setup, or give -DCONCORDAT_TORCH=DIR "
                      "(the folder that holds include/ and lib/), or -DCONCORDAT_BUILD_TRAINER=OFF")
endif()
option(CONCORDAT_CUDA "Link the trainer with LibTorch's CUDA libraries" OFF)

add_library(concordat_torch INTERFACE)
add_library(concordat::torch ALIAS concordat_torch)
# -idirafter: the wheel carries headers of other libraries too (its own fmt), which must not hide the system's.
foreach(dir ${CONCORDAT_TORCH}/include ${CONCORDAT_TORCH}/include/torch/csrc/api/include)
  target_compile_options(concordat_torch INTERFACE "SHELL:-idirafter ${dir}")
endforeach()
target_link_libraries(concordat_torch INTERFACE ${CONCORDAT_TORCH}/lib/libtorch_cpu.so ${CONCORDAT_TORCH}/lib/libc10.so)
if(CONCORDAT_CUDA)
  target_compile_definitions(concordat_torch INTERFACE CONCORDAT_CUDA=1)
  target_link_options(concordat_torch INTERFACE -Wl,--no-as-needed)
  target_link_libraries(concordat_torch INTERFACE ${CONCORDAT_TORCH}/lib/libtorch_cuda.so
    ${CONCORDAT_TORCH}/lib/libc10_cuda.so ${CONCORDAT_TORCH}/lib/libtorch.so)
endif()
# OpenMP: the wheel's own pool, or there are two in one process.
file(GLOB _gomp ${CONCORDAT_TORCH}/lib/libgomp*.so.1 ${CONCORDAT_TORCH}/../torch.libs/libgomp*.so*)
if(_gomp)
  list(GET _gomp 0 CONCORDAT_TORCH_GOMP)
  target_link_libraries(concordat_torch INTERFACE ${CONCORDAT_TORCH_GOMP})
else()
  message(FATAL_ERROR "no libgomp beside LibTorch in ${CONCORDAT_TORCH}/lib")
endif()
file(GLOB _cuda_dirs ${CONCORDAT_TORCH}/../nvidia/*/lib)
set(CONCORDAT_TORCH_RPATH ${CONCORDAT_TORCH}/lib ${_cuda_dirs})
target_link_options(concordat_torch INTERFACE "SHELL:-Wl,--disable-new-dtags")
foreach(dir ${CONCORDAT_TORCH_RPATH})
  target_link_options(concordat_torch INTERFACE -Wl,-rpath,${dir} -Wl,-rpath-link,${dir})
endforeach()
