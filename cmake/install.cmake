# Headers, libraries, pkg-config files, and the package for find_package(filelock). The installed tree
# may be moved as a whole.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/filelock)

# filelock_install(NAME): its flavours, its headers, NAME.pc and NAME-targets.cmake
function(filelock_install name)
	set(targets)
	foreach(target IN ITEMS ${name}_shared ${name}_static)
		if(TARGET ${target})
			list(APPEND targets ${target})
			get_target_property(headers ${target} FILELOCK_HEADERS)
		endif()
	endforeach()
	install(TARGETS ${targets} EXPORT ${name}-targets
		INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
	install(EXPORT ${name}-targets NAMESPACE filelock:: DESTINATION ${package_dir})
	list(TRANSFORM headers PREPEND ${PROJECT_SOURCE_DIR}/include/)
	install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/filelock)
	filelock_pkgconfig(${name})
endfunction()

# The way from NAME.pc to a folder: so the prefix may be named later (cmake --install --prefix), and
# again. An absolute folder is what it is.
function(filelock_from_pc folder ret_way)
	if(IS_ABSOLUTE ${folder})
		set(${ret_way} ${folder} PARENT_SCOPE)
		return()
	endif()
	file(RELATIVE_PATH way /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix/${folder})
	string(REGEX REPLACE "/$" "" way "\${pcfiledir}/${way}")
	set(${ret_way} ${way} PARENT_SCOPE)
endfunction()

function(filelock_pkgconfig name)
	filelock_from_pc(${CMAKE_INSTALL_LIBDIR} libdir)
	filelock_from_pc(${CMAKE_INSTALL_INCLUDEDIR} includedir)
	# not Requires.private, for which pkg-config would want SQLite's headers everywhere
	list(JOIN FILELOCK_SQLITE3_STATIC_LDFLAGS " " pc_private)
	string(STRIP "-pthread ${pc_private}" pc_private)
	set(pc_also "")
	if(NOT FILELOCK_BUILD_SHARED) # then everybody links statically, with --static or without
		set(pc_also " ${pc_private}")
	endif()
	set(pc_etcd "-levent_openssl -levent_extra -ljansson -lssl -lcrypto")
	set(pc_etcd_also "")
	if(NOT FILELOCK_BUILD_SHARED)
		set(pc_etcd_also " ${pc_etcd}")
	endif()
	configure_file(cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
	install(FILES ${PROJECT_BINARY_DIR}/${name}.pc
		DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()

filelock_install(filelock)
if(FILELOCK_EVENT)
	filelock_install(filelock_event)
endif()
if(FILELOCK_ETCD)
	filelock_install(filelock_etcd)
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

# `cpack` makes a tarball of the installed tree.
if(FILELOCK_TOP_LEVEL)
	set(CPACK_GENERATOR TGZ)
	set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
	include(CPack)
endif()
