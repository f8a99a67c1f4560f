# Every header compiles alone: one generated source a header, compiled with the tests. Headers named
# -inl.h are bodies that Highway includes once per instruction set.
file(GLOB_RECURSE sw_headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}
  ${PROJECT_SOURCE_DIR}/include/*.h ${PROJECT_SOURCE_DIR}/kernels/*.h
  ${PROJECT_SOURCE_DIR}/runtime/*.h ${PROJECT_SOURCE_DIR}/models/*.h
  ${PROJECT_SOURCE_DIR}/speculative/*.h ${PROJECT_SOURCE_DIR}/apps/*.h
  ${PROJECT_SOURCE_DIR}/tests/*.h)
list(FILTER sw_headers EXCLUDE REGEX "-inl\\.h$")
set(sw_header_sources)
foreach(header IN LISTS sw_headers)
  string(REGEX REPLACE "^include/" "" included ${header})
  set(source ${CMAKE_CURRENT_BINARY_DIR}/header_test/${header}.cc)
  file(CONFIGURE OUTPUT ${source} CONTENT "#include \"${included}\"\n#include \"${included}\"\n")
  list(APPEND sw_header_sources ${source})
endforeach()
find_package(CLI11 REQUIRED)
add_library(header_test OBJECT ${sw_header_sources})
target_link_libraries(header_test PRIVATE
  sw_speculative sw_models sw_runtime sw_kernels sw_options PkgConfig::HWY CLI11::CLI11
  GTest::gmock GTest::gtest)
target_compile_options(header_test PRIVATE -O0)
target_compile_definitions(header_test PRIVATE SW_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
