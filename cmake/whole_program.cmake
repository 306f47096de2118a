# llm_whole_program(<target>...): let the compiler see across the target's files. A step of the engine is some hundred
# small functions in thirty files; inlined across them a published token costs a third less (docs/PERFORMANCE.md).
# Release builds with gcc only. The objects also hold ordinary code, so that archives of them work everywhere.
set(LLMD_WHOLE_PROGRAM AUTO CACHE STRING "optimise across files (gcc, Release): AUTO, ON or OFF")
set(llm_whole_program_on FALSE)
if(LLMD_WHOLE_PROGRAM STREQUAL "ON" OR (LLMD_WHOLE_PROGRAM STREQUAL "AUTO" AND CMAKE_BUILD_TYPE STREQUAL "Release"
    AND CMAKE_C_COMPILER_ID STREQUAL "GNU" AND NOT LLMD_SANITIZE))
  include(CheckIPOSupported)
  check_ipo_supported(RESULT llm_whole_program_on LANGUAGES C)
endif()

function(llm_whole_program)
  if(llm_whole_program_on)
    foreach(target ${ARGN})
      target_compile_options(${target} PRIVATE -flto=auto -ffat-lto-objects)
      target_link_options(${target} PRIVATE -flto=auto)
    endforeach()
  endif()
endfunction()
