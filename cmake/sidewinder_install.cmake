# `cmake --install`: the command line, the static libraries, the public headers of
# include/sidewinder and the package files behind find_package(sidewinder), which gives
# sidewinder::sidewinder.
if(NOT TARGET sw_speculative)
  return()
endif()
include(CMakePackageConfigHelpers)

add_library(sidewinder_package INTERFACE)
set_target_properties(sidewinder_package PROPERTIES EXPORT_NAME sidewinder)
target_link_libraries(sidewinder_package INTERFACE sw_speculative)
add_library(sidewinder::sidewinder ALIAS sidewinder_package)

set(sw_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/sidewinder)
install(TARGETS sidewinder_package sw_kernels sw_json sw_tokenizer sw_runtime sw_models
                sw_speculative
        EXPORT sidewinderTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS sidewinder RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/sidewinder TYPE INCLUDE FILES_MATCHING PATTERN "*.h")
install(EXPORT sidewinderTargets NAMESPACE sidewinder:: DESTINATION ${sw_package_dir})

configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/sidewinderConfig.cmake.in
  ${PROJECT_BINARY_DIR}/sidewinderConfig.cmake INSTALL_DESTINATION ${sw_package_dir})
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/sidewinderConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/sidewinderConfig.cmake
              ${PROJECT_BINARY_DIR}/sidewinderConfigVersion.cmake DESTINATION ${sw_package_dir})
