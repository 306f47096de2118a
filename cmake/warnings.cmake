# The compiler settings shared by every target of ours, as the interface target `llm_warnings`.
option(LLMD_WERROR "treat warnings as errors" OFF)
option(LLMD_SLOW_CHECKS "compile CHECK_SLOW: whole-structure invariants after each change" OFF)
set(LLMD_SANITIZE "" CACHE STRING "sanitizers for every target: address,undefined or thread")

add_library(llm_warnings INTERFACE)
target_include_directories(llm_warnings INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(llm_warnings INTERFACE _GNU_SOURCE $<$<BOOL:${LLMD_SLOW_CHECKS}>:LLM_SLOW_CHECKS>)
target_compile_options(llm_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wdouble-promotion -Wfloat-conversion
  -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wredundant-decls -Wcast-qual -Wpointer-arith
  -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wnull-dereference -Wimplicit-fallthrough -Wswitch-enum
  -fno-common -fstack-protector-strong
  $<$<C_COMPILER_ID:GNU>:-Wcast-align=strict -Wduplicated-cond -Wduplicated-branches -Wlogical-op -Wjump-misses-init>
  $<$<BOOL:${LLMD_WERROR}>:-Werror>)
if(LLMD_SANITIZE)
  target_compile_options(llm_warnings INTERFACE -fsanitize=${LLMD_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(llm_warnings INTERFACE -fsanitize=${LLMD_SANITIZE})
  # The sanitizers' instrumentation makes gcc's flow analysis see null where there is none.
  target_compile_options(llm_warnings INTERFACE -Wno-null-dereference)
elseif(NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  target_compile_options(llm_warnings INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
endif()
