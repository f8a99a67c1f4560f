# sw_library(name SOURCES ... DEPS ... PRIVATE_DEPS ...)   a static library of one folder
# sw_kernel(op)                                            collects the files of one op by its stem
# sw_test(name SOURCES ... DEPS ... [ON_DEVICES])          a GoogleTest binary; ON_DEVICES: run a second
#                                                          time on a GPU, skipped where there is none
# sw_bench(name SOURCES ... DEPS ...)                      a Google Benchmark binary
# sw_fuzz(name SOURCES ... DEPS ... CORPUS dir)            a libFuzzer target, run briefly by CTest

add_library(sw_options INTERFACE)
target_compile_options(sw_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-missing-field-initializers -Werror>
  $<$<COMPILE_LANGUAGE:CUDA>:-Werror all-warnings -lineinfo>)
if(SIDEWINDER_SANITIZE)
  target_compile_options(sw_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${SIDEWINDER_SANITIZE}
    -fno-sanitize-recover=all -fno-omit-frame-pointer -g>)
  target_link_options(sw_options INTERFACE -fsanitize=${SIDEWINDER_SANITIZE})
endif()

function(sw_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(${name} PUBLIC cxx_std_20)
  target_link_libraries(${name} PUBLIC ${ARG_DEPS}
    PRIVATE ${ARG_PRIVATE_DEPS} $<BUILD_INTERFACE:sw_options>)
endfunction()

function(sw_kernel op)
  foreach(suffix .cc _cpu.cc _cuda.cu)
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${op}${suffix})
      if(NOT suffix STREQUAL "_cuda.cu" OR SIDEWINDER_HAS_CUDA)
        target_sources(sw_kernels PRIVATE ${op}${suffix})
      endif()
    endif()
  endforeach()
  if(SIDEWINDER_HAS_CUDA AND EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${op}_sm90.cu)
    if(NOT TARGET sw_kernels_sm90)  # instructions of Hopper alone
      add_library(sw_kernels_sm90 OBJECT)
      target_include_directories(sw_kernels_sm90 PRIVATE ${PROJECT_SOURCE_DIR})
      target_compile_definitions(sw_kernels_sm90 PRIVATE SIDEWINDER_HAS_CUDA)
      target_link_libraries(sw_kernels_sm90 PRIVATE sw_options)
      set_target_properties(sw_kernels_sm90 PROPERTIES CUDA_ARCHITECTURES 90a-real)
      target_sources(sw_kernels PRIVATE $<TARGET_OBJECTS:sw_kernels_sm90>)
    endif()
    target_sources(sw_kernels_sm90 PRIVATE ${op}_sm90.cu)
  endif()
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${op}_ref.cc)
    target_sources(sw_kernels_ref PRIVATE ${op}_ref.cc)
  endif()
endfunction()

function(sw_test name)
  cmake_parse_arguments(ARG "ON_DEVICES" "TIMEOUT" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} sw_options GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE SW_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)
  endif()
  add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT})
  if(ARG_ON_DEVICES)
    add_test(NAME ${name}_cuda COMMAND ${name} --gtest_brief=1)
    set_tests_properties(${name}_cuda PROPERTIES TIMEOUT ${ARG_TIMEOUT}
                         ENVIRONMENT SIDEWINDER_TEST_DEVICE=cuda)
  endif()
endfunction()

function(sw_bench name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} sw_options benchmark::benchmark_main)
endfunction()

function(sw_fuzz name)
  cmake_parse_arguments(ARG "" "CORPUS" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} sw_options -fsanitize=fuzzer)
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
  add_test(NAME ${name} COMMAND ${name} -max_total_time=10 -rss_limit_mb=2048 -timeout=10
           ${CMAKE_CURRENT_BINARY_DIR}/${name}_corpus ${ARG_CORPUS})
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/${name}_corpus)
endfunction()
