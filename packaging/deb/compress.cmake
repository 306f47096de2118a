# What Debian wants compressed, in the folders that CPack is about to pack: manual pages and changelogs. The archives keep
# neither debug information nor the compiler's intermediate code (as dh_strip(1) does it).
find_program(GZIP gzip REQUIRED)
file(GLOB_RECURSE pages ${CPACK_TEMPORARY_DIRECTORY}/*${CPACK_PACKAGING_INSTALL_PREFIX}/share/man/man*/*.[1-8])
file(GLOB_RECURSE changelogs ${CPACK_TEMPORARY_DIRECTORY}/*${CPACK_PACKAGING_INSTALL_PREFIX}/share/doc/*/changelog)
foreach(file IN LISTS pages changelogs)
  execute_process(COMMAND ${GZIP} -9nf ${file} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
file(GLOB_RECURSE archives ${CPACK_TEMPORARY_DIRECTORY}/*${CPACK_PACKAGING_INSTALL_PREFIX}/lib/*.a)
find_program(STRIP strip)
foreach(file IN LISTS archives)
  if(STRIP)
    execute_process(COMMAND ${STRIP} --strip-debug --remove-section=.comment --remove-section=.note
      --remove-section=.gnu.lto_* --remove-section=.gnu.debuglto_* -N __gnu_lto_slim -N __gnu_lto_v1
      --enable-deterministic-archives ${file})
  endif()
endforeach()
