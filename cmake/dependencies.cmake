# What the libraries need. The targets are seen from the whole project that this one may be a part of:
# its programs link what the static libraries use.
if(NOT TARGET Threads::Threads)
	find_package(Threads REQUIRED)
	set_target_properties(Threads::Threads PROPERTIES IMPORTED_GLOBAL TRUE)
endif()

if(FILELOCK_EVENT OR FILELOCK_SQLITE OR FILELOCK_TESTS)
	find_package(PkgConfig REQUIRED)
endif()
if(FILELOCK_EVENT)
	pkg_check_modules(FILELOCK_LIBEVENT IMPORTED_TARGET GLOBAL libevent_core>=2.1)
	if(NOT FILELOCK_LIBEVENT_FOUND)
		message(FATAL_ERROR "pkg-config finds no libevent_core >= 2.1; "
			"-DFILELOCK_EVENT=OFF builds the library without a loop")
	endif()
endif()
if(FILELOCK_ETCD)
	pkg_check_modules(FILELOCK_JANSSON IMPORTED_TARGET GLOBAL jansson)
	pkg_check_modules(FILELOCK_OPENSSL IMPORTED_TARGET GLOBAL openssl>=1.1.1)
	pkg_check_modules(FILELOCK_EVENT_EXTRA IMPORTED_TARGET GLOBAL libevent_extra>=2.1)
	# its file names libevent, a second copy of libevent_core
	find_library(FILELOCK_EVENT_OPENSSL event_openssl HINTS ${FILELOCK_LIBEVENT_LIBRARY_DIRS})
	if(NOT FILELOCK_JANSSON_FOUND OR NOT FILELOCK_OPENSSL_FOUND OR
	   NOT FILELOCK_EVENT_EXTRA_FOUND OR NOT FILELOCK_EVENT_OPENSSL)
		message(STATUS "No locks in etcd: they need jansson, openssl, libevent_extra and "
			"libevent_openssl")
		set(FILELOCK_ETCD OFF)
	endif()
endif()
set(FILELOCK_ETCD_TARGETS)
if(FILELOCK_ETCD)
	add_library(PkgConfig::FILELOCK_EVENT_OPENSSL INTERFACE IMPORTED GLOBAL)
	target_link_libraries(PkgConfig::FILELOCK_EVENT_OPENSSL INTERFACE ${FILELOCK_EVENT_OPENSSL})
	set(FILELOCK_ETCD_TARGETS PkgConfig::FILELOCK_EVENT_OPENSSL
		PkgConfig::FILELOCK_EVENT_EXTRA PkgConfig::FILELOCK_JANSSON
		PkgConfig::FILELOCK_OPENSSL)
endif()
set(FILELOCK_SQLITE_TARGET)
if(FILELOCK_SQLITE)
	pkg_check_modules(FILELOCK_SQLITE3 IMPORTED_TARGET GLOBAL sqlite3>=3.31)
	if(NOT FILELOCK_SQLITE3_FOUND)
		message(FATAL_ERROR "pkg-config finds no sqlite3 >= 3.31; "
			"-DFILELOCK_SQLITE=OFF leaves out the read/write locks")
	endif()
	set(FILELOCK_SQLITE_TARGET PkgConfig::FILELOCK_SQLITE3)
endif()
