# filelock_library(NAME DIRECTORY dir HEADERS h... [EXPORT_NAME name] [USES targets...]
#                  [PRIVATE_USES targets...])
#
# Makes of the sources in DIRECTORY, compiled once:
#   NAME_shared    filelock::EXPORT_NAME; exports what the script DIRECTORY/NAME.map.in says
#   NAME_static    filelock::EXPORT_NAME_static, and EXPORT_NAME if there is no shared one
#   NAME_internal  for the tests, which may use what is hidden; never installed
# USES names another such library by its NAME, or any target; PRIVATE_USES what its own headers do
# not mention.
function(filelock_library name)
	cmake_parse_arguments(arg "" "DIRECTORY;EXPORT_NAME" "HEADERS;USES;PRIVATE_USES" ${ARGN})
	if(NOT arg_EXPORT_NAME)
		set(arg_EXPORT_NAME ${name})
	endif()
	file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${FILELOCK_SOURCES}/${arg_DIRECTORY}/*.c)
	if(NOT sources)
		set(sources ${PROJECT_BINARY_DIR}/${name}_empty.c)
		file(CONFIGURE OUTPUT ${sources} CONTENT "typedef int ${name}_empty;\n")
	endif()

	add_library(${name}_objects OBJECT ${sources})
	set_target_properties(${name}_objects PROPERTIES
		C_VISIBILITY_PRESET hidden
		POSITION_INDEPENDENT_CODE ON)
	target_include_directories(${name}_objects PRIVATE ${PROJECT_SOURCE_DIR}/include
		${FILELOCK_SOURCES}/lib)
	target_compile_definitions(${name}_objects PRIVATE
		FILELOCK_VERSION="${PROJECT_VERSION}")
	target_link_libraries(${name}_objects PRIVATE filelock_flags)
	foreach(used IN LISTS arg_USES)
		if(NOT TARGET ${used}_objects)
			target_link_libraries(${name}_objects PRIVATE ${used})
		endif()
	endforeach()

	target_link_libraries(${name}_objects PRIVATE ${arg_PRIVATE_USES})

	if(FILELOCK_BUILD_SHARED)
		filelock_flavour(${name} shared SHARED $<TARGET_OBJECTS:${name}_objects>)
		set_target_properties(${name}_shared PROPERTIES
			VERSION ${PROJECT_VERSION}
			SOVERSION ${PROJECT_VERSION_MAJOR}
			EXPORT_NAME ${arg_EXPORT_NAME})
		add_library(filelock::${arg_EXPORT_NAME} ALIAS ${name}_shared)
		filelock_version_script(${name}_shared ${arg_DIRECTORY}/${name}.map.in)
		# dlclose(3) would lose what a process keeps: descriptors for waits, handlers
		target_link_options(${name}_shared PRIVATE "LINKER:-z,nodelete")
	endif()
	if(FILELOCK_BUILD_STATIC)
		filelock_single_object(${name} object)
		filelock_flavour(${name} static STATIC ${object})
		set_target_properties(${name}_static PROPERTIES
			EXPORT_NAME ${arg_EXPORT_NAME}_static)
		add_library(filelock::${arg_EXPORT_NAME}_static ALIAS ${name}_static)
		if(NOT FILELOCK_BUILD_SHARED)
			add_library(filelock::${arg_EXPORT_NAME} ALIAS ${name}_static)
		endif()
	endif()
	if(FILELOCK_TESTS OR FILELOCK_BENCH)
		filelock_flavour(${name} internal STATIC $<TARGET_OBJECTS:${name}_objects>)
		set_target_properties(${name}_internal PROPERTIES
			OUTPUT_NAME ${name}_internal
			EXCLUDE_FROM_ALL ON)
	endif()
endfunction()

# All objects as one, in which what is hidden is local: so no internal name can meet a name of
# the program that links the static library.
function(filelock_single_object name ret_object)
	# Intermediate code of a link-time optimiser has no symbols that objcopy could make local.
	target_compile_options(${name}_objects PRIVATE -fno-lto)
	set(dir ${PROJECT_BINARY_DIR})
	if(CMAKE_CONFIGURATION_TYPES)
		string(APPEND dir /$<CONFIG>)
	endif()
	set(joined ${dir}/${name}_joined.o)
	set(object ${dir}/${name}.o)
	add_custom_command(OUTPUT ${object}
		COMMAND ${CMAKE_LINKER} -r -o ${joined} $<TARGET_OBJECTS:${name}_objects>
		COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${joined} ${object}
		DEPENDS ${name}_objects $<TARGET_OBJECTS:${name}_objects>
		COMMAND_EXPAND_LISTS VERBATIM)
	set(${ret_object} ${object} PARENT_SCOPE)
endfunction()

# One of the three; arg_… are those of filelock_library.
function(filelock_flavour name flavour type)
	set(target ${name}_${flavour})
	add_library(${target} ${type} ${ARGN})
	set_target_properties(${target} PROPERTIES OUTPUT_NAME ${name} LINKER_LANGUAGE C)
	set_target_properties(${target} PROPERTIES FILELOCK_HEADERS "${arg_HEADERS}")
	target_include_directories(${target} INTERFACE
		$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)
	if(FILELOCK_SANITIZE)
		target_link_options(${target} PUBLIC
			$<BUILD_INTERFACE:-fsanitize=${FILELOCK_SANITIZE}>)
	endif()
	target_link_libraries(${target} PRIVATE Threads::Threads ${arg_PRIVATE_USES})
	foreach(used IN LISTS arg_USES)
		if(TARGET ${used}_${flavour})
			set(used ${used}_${flavour})
		endif()
		target_link_libraries(${target} PUBLIC ${used})
	endforeach()
endfunction()

function(filelock_version_script target template)
	get_filename_component(script ${template} NAME_WLE)
	set(script ${PROJECT_BINARY_DIR}/${script})
	configure_file(${PROJECT_SOURCE_DIR}/${template} ${script} @ONLY)
	target_link_options(${target} PRIVATE "LINKER:--version-script=${script}")
	if(NOT FILELOCK_SANITIZE) # their run-time library comes with the program
		target_link_options(${target} PRIVATE "LINKER:--no-undefined")
	endif()
	set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${script})
endfunction()
