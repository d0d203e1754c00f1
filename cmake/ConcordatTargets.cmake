# concordat_library(NAME [OWN_HEADERS] SOURCES a.cc b.cc DEPS x y): one static library with the project's warnings.
# concordat_binary(NAME SOURCES main.cc DEPS x y): one program in build/<preset>/bin.
# concordat_test(NAME SOURCES a_test.cc DEPS x y [LABELS l]): one GoogleTest binary, its cases known to ctest.

add_library(concordat_options INTERFACE)
target_compile_options(concordat_options INTERFACE -Wall -Wextra -Werror -Wno-error=deprecated-declarations
  # Floating point must give the same bits at the coordinator and in every region: no fused multiply-add
  # that one compiler forms and another does not.
  -ffp-contract=off)
# gRPC asks for it: set for all, so that tests with and without gRPC share a precompiled header.
target_compile_options(concordat_options INTERFACE -pthread)
target_include_directories(concordat_options INTERFACE ${CMAKE_SOURCE_DIR})
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # The compiler collects its own garbage at 128 MB: an eighth of its time, for files that end below a gigabyte.
  target_compile_options(concordat_options INTERFACE $<$<CONFIG:Release>:--param=ggc-min-heapsize=524288>)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # g++ 12 takes the small buffer inside a std::string that was just joined for overrun, in the library's own code.
  target_compile_options(concordat_options INTERFACE -Wno-array-bounds -Wno-restrict
    -Wno-stringop-overread -Wno-stringop-overflow)
endif()
if(CONCORDAT_SANITIZER)
  # g++ 12 sees uninitialised members of the standard library's own types in instrumented code.
  target_compile_options(concordat_options INTERFACE -Wno-maybe-uninitialized)
endif()
if(CONCORDAT_SANITIZER STREQUAL "address")
  target_compile_options(concordat_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(concordat_options INTERFACE -fsanitize=address,undefined)
elseif(CONCORDAT_SANITIZER STREQUAL "thread")
  target_compile_options(concordat_options INTERFACE -fsanitize=thread -fno-omit-frame-pointer)
  target_link_options(concordat_options INTERFACE -fsanitize=thread)
endif()
if(CONCORDAT_BUILD_FUZZERS)
  target_compile_options(concordat_options INTERFACE -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(concordat_options INTERFACE -fsanitize=address,undefined)
endif()

find_program(CONCORDAT_CCACHE ccache)
if(CONCORDAT_CCACHE)
  # Two checkouts of the same tree share their objects: paths under the source folder are made relative.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CONCORDAT_CCACHE})
endif()

# Nearly every file needs common/status.h and a part of the standard library: parsed once, they are a third of a
# small file's compile time. A library with headers of its own to precompile says OWN_HEADERS. The preset `fuzz`
# does without, so that a file that leaves an include to this is found.
function(concordat_library name)
  cmake_parse_arguments(ARG "OWN_HEADERS" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC concordat_options ${ARG_DEPS})
  if(NOT ARG_OWN_HEADERS)
    target_precompile_headers(${name} REUSE_FROM concordat_common)
  endif()
endfunction()

function(concordat_binary name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE concordat_options ${ARG_DEPS})
endfunction()

# Code that takes longer to compile than it will ever run, tests and the verbs of the command: a quarter to a third
# of its compile time is saved at -O1, and what it calls is not touched.
function(concordat_glue_code target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()
# The test headers are the slow part of a small test: one precompiled header serves every binary.
function(concordat_test_headers target)
  concordat_glue_code(${target})
  target_precompile_headers(${target} REUSE_FROM concordat_test_support)
endfunction()

function(concordat_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE concordat_options ${ARG_DEPS} concordat_test_support)
  concordat_test_headers(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
    PROPERTIES TIMEOUT 900 LABELS "${ARG_LABELS}")
endfunction()
