# llm_test(<folder>/<name> LABEL unit LIBS ...): tests/<folder>/test_<name>.c as the ctest test <folder>/<name>.
# Exit code 77 means "skipped: what it needs is not on this machine".
include(CTest)
if(BUILD_TESTING)
  llm_require(check check check "unit tests")
endif()

# Check's own limits are for hung tests, not for slow machines: 60 s, more where sanitizers slow everything down.
set(LLM_TEST_ENVIRONMENT CK_DEFAULT_TIMEOUT=60)
if(LLMD_SANITIZE)
  list(APPEND LLM_TEST_ENVIRONMENT CK_TIMEOUT_MULTIPLIER=4)
endif()

function(llm_test test)
  cmake_parse_arguments(arg "" "LABEL;TIMEOUT" "LIBS;SOURCES" ${ARGN})
  if(NOT arg_LABEL)
    set(arg_LABEL unit)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  get_filename_component(folder ${test} DIRECTORY)
  get_filename_component(name ${test} NAME)
  string(REPLACE "/" "_" target "test_${folder}_${name}")
  add_executable(${target} ${PROJECT_SOURCE_DIR}/tests/${folder}/test_${name}.c ${arg_SOURCES})
  target_link_libraries(${target} PRIVATE ${arg_LIBS} llm_warnings PkgConfig::check Threads::Threads m)
  target_compile_definitions(${target} PRIVATE
    LLM_SOURCE_DIR="${PROJECT_SOURCE_DIR}" LLM_BINARY_DIR="${PROJECT_BINARY_DIR}")
  add_test(NAME ${test} COMMAND ${target})
  set_tests_properties(${test} PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT} SKIP_RETURN_CODE 77
    ENVIRONMENT "${LLM_TEST_ENVIRONMENT}")
endfunction()
