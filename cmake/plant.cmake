# FILELOCK_PLANT=NAME compiles a copy of the sources in which the bug tests/planted/NAME.patch is
# planted, for the tests to catch it; "none" compiles the copy as it is. See tests/planted/run.
set(FILELOCK_PLANT "" CACHE STRING "Never but to test the tests: the bug to plant (tests/planted)")
set(FILELOCK_SOURCES ${PROJECT_SOURCE_DIR})
if(FILELOCK_PLANT)
	set(FILELOCK_SOURCES ${PROJECT_BINARY_DIR}/planted)
	set(fresh ${PROJECT_BINARY_DIR}/planting)
	file(REMOVE_RECURSE ${fresh})
	file(COPY lib async etcd DESTINATION ${fresh})
	if(NOT FILELOCK_PLANT STREQUAL "none")
		# no fuzz: it would plant the bug where it does nothing
		find_program(PATCH patch REQUIRED)
		execute_process(
			COMMAND ${PATCH} --strip=1 --fuzz=0 --batch --no-backup-if-mismatch
				--directory=${fresh}
				--input=${PROJECT_SOURCE_DIR}/tests/planted/${FILELOCK_PLANT}.patch
			RESULT_VARIABLE status)
		if(status)
			message(FATAL_ERROR "tests/planted/${FILELOCK_PLANT}.patch does not apply")
		endif()
	endif()
	# what has not changed is not compiled again
	file(GLOB_RECURSE sources RELATIVE ${fresh} ${fresh}/*)
	foreach(source IN LISTS sources)
		configure_file(${fresh}/${source} ${FILELOCK_SOURCES}/${source} COPYONLY)
	endforeach()
	message(WARNING "the libraries are built with a bug planted: ${FILELOCK_PLANT}")
endif()
