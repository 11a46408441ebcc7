# Headers, libraries, pkg-config files, and the package for find_package(filelock).
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/filelock)

# filelock_install(NAME EXPORT_NAME): its flavours, NAME.pc and NAME-targets.cmake
function(filelock_install name)
	set(targets)
	foreach(target IN ITEMS ${name}_shared ${name}_static)
		if(TARGET ${target})
			list(APPEND targets ${target})
		endif()
	endforeach()
	install(TARGETS ${targets} EXPORT ${name}-targets FILE_SET HEADERS)
	install(EXPORT ${name}-targets NAMESPACE filelock:: DESTINATION ${package_dir})
	filelock_pkgconfig(${name})
endfunction()

# The prefix is filled in at the installation, which may name another (cmake --install --prefix).
function(filelock_pkgconfig name)
	foreach(dir IN ITEMS LIBDIR INCLUDEDIR)
		set(pc_${dir} ${CMAKE_INSTALL_${dir}})
		if(NOT IS_ABSOLUTE ${pc_${dir}})
			string(PREPEND pc_${dir} "\${prefix}/")
		endif()
	endforeach()
	# not Requires.private, for which pkg-config would want SQLite's headers everywhere
	list(JOIN FILELOCK_SQLITE3_STATIC_LDFLAGS " " pc_private)
	string(STRIP "-pthread ${pc_private}" pc_private)
	set(pc_also "")
	if(NOT FILELOCK_BUILD_SHARED) # then everybody links statically, with --static or without
		set(pc_also " ${pc_private}")
	endif()
	set(prefix @CMAKE_INSTALL_PREFIX@)
	set(half ${PROJECT_BINARY_DIR}/${name}.pc.in)
	configure_file(cmake/${name}.pc.in ${half} @ONLY)
	install(CODE "configure_file(${half} ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)")
	install(FILES ${PROJECT_BINARY_DIR}/${name}.pc
		DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()

filelock_install(filelock)
if(FILELOCK_EVENT)
	filelock_install(filelock_event)
endif()

configure_package_config_file(cmake/filelock-config.cmake.in filelock-config.cmake
	INSTALL_DESTINATION ${package_dir}
	NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(filelock-config-version.cmake
	COMPATIBILITY SameMajorVersion)
install(FILES
	${PROJECT_BINARY_DIR}/filelock-config.cmake
	${PROJECT_BINARY_DIR}/filelock-config-version.cmake
	DESTINATION ${package_dir})
