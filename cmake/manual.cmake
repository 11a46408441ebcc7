# The manual pages, made of the headers' comments: docs/man/make says how.
include(GNUInstallDirs)

file(GLOB manual_sources CONFIGURE_DEPENDS docs/man/* include/filelock/*.h)
add_custom_command(OUTPUT ${PROJECT_BINARY_DIR}/man.made
	COMMAND ${PROJECT_SOURCE_DIR}/docs/man/make ${PROJECT_BINARY_DIR}/man ${PROJECT_VERSION}
	COMMAND ${CMAKE_COMMAND} -E touch ${PROJECT_BINARY_DIR}/man.made
	DEPENDS ${manual_sources} VERBATIM)
add_custom_target(filelock_manual ALL DEPENDS ${PROJECT_BINARY_DIR}/man.made)
install(DIRECTORY ${PROJECT_BINARY_DIR}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR})
