# Packages by CPack: llmd (programs, model, units), libllm0 (libraries), libllm-dev (to build against them).
#
#   cmake --preset package && cmake --build --preset package && (cd build/package && cpack)
#
# The preset installs into /usr. Settings: https://cmake.org/cmake/help/v3.25/cpack_gen/deb.html
set(CPACK_GENERATOR DEB CACHE STRING "kinds of packages")
set(CPACK_PACKAGE_NAME llmd)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_VENDOR llmd)
set(CPACK_PACKAGE_CONTACT "${LLMD_MAINTAINER}")
set(CPACK_PACKAGING_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_COMPONENTS_ALL llmd libllm libllm-dev)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_SOURCE_DIR}/deb/compress.cmake)

set(library_package libllm${PROJECT_VERSION_MAJOR})
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION misc)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_LIBRARY_OUTPUT_DIRECTORY})
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS OFF)

set(CPACK_DEBIAN_LLMD_PACKAGE_NAME llmd)
set(CPACK_COMPONENT_LLMD_DESCRIPTION "language models served to programs over shared memory
llmd owns the language models of a machine and serves them to its programs:
a program writes a request into memory that only it writes and reads the
answer's tokens from memory that only the daemon writes. This package holds
the daemon, its tools, a small built-in model and units for systemd.")
set(CPACK_DEBIAN_LLMD_PACKAGE_CONTROL_EXTRA
  "${CMAKE_CURRENT_SOURCE_DIR}/deb/postinst;${CMAKE_CURRENT_SOURCE_DIR}/deb/prerm;${CMAKE_CURRENT_SOURCE_DIR}/deb/postrm")

set(CPACK_DEBIAN_LIBLLM_PACKAGE_NAME ${library_package})
set(CPACK_DEBIAN_LIBLLM_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBLLM_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_SOURCE_DIR}/deb/triggers)
set(CPACK_DEBIAN_LIBLLM_PACKAGE_RECOMMENDS llmd)
set(CPACK_COMPONENT_LIBLLM_DESCRIPTION "talk to llmd: shared libraries
libllm submits token ids to llmd and reads the answer's tokens, with libc
alone; libllm-text adds vocabularies, text to tokens and tokens to text.")

set(CPACK_DEBIAN_LIBLLM-DEV_PACKAGE_NAME libllm-dev)
set(CPACK_DEBIAN_LIBLLM-DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_LIBLLM-DEV_PACKAGE_DEPENDS
  "${library_package} (= ${PROJECT_VERSION}), libpcre2-dev, libutf8proc-dev")
set(CPACK_COMPONENT_LIBLLM-DEV_DESCRIPTION "talk to llmd: files to build programs with
Headers, archives, pkg-config files, a CMake package and the manual of
libllm and libllm-text.")

# What every Debian package says of itself: where it comes from, and what changed (docs/man's date: the last commit's).
set(doc_folder ${CMAKE_CURRENT_BINARY_DIR}/deb)
set(commit_date "Thu, 01 Jan 1970 00:00:00 +0000")
execute_process(COMMAND git -C ${PROJECT_SOURCE_DIR} log -1 --format=%cD
  OUTPUT_VARIABLE git_date OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(git_date)
  set(commit_date ${git_date})
endif()
configure_file(deb/changelog.in ${doc_folder}/changelog @ONLY)
foreach(component llmd libllm libllm-dev)
  set(package ${component})
  if(component STREQUAL libllm)
    set(package ${library_package})
  endif()
  set(folder ${CMAKE_INSTALL_DATADIR}/doc/${package})
  install(FILES deb/copyright ${doc_folder}/changelog DESTINATION ${folder} COMPONENT ${component})
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/deb/${component}.lintian-overrides)
    install(FILES deb/${component}.lintian-overrides DESTINATION ${CMAKE_INSTALL_DATADIR}/lintian/overrides
      RENAME ${package} COMPONENT ${component})
  endif()
endforeach()

include(CPack)
