# filelock_library(NAME DIRECTORY dir HEADERS h... [EXPORT_NAME name] [USES targets...])
#
# Makes NAME_shared and NAME_static, as far as they are wanted, of the sources in DIRECTORY,
# compiled once; and the names filelock::EXPORT_NAME (shared; static if there is no other) and
# filelock::EXPORT_NAME_static. The version script DIRECTORY/NAME.map.in says what is exported.
# USES names another such library by its NAME, or any target.
function(filelock_library name)
	cmake_parse_arguments(arg "" "DIRECTORY;EXPORT_NAME" "HEADERS;USES" ${ARGN})
	if(NOT arg_EXPORT_NAME)
		set(arg_EXPORT_NAME ${name})
	endif()
	file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${arg_DIRECTORY}/*.c)
	if(NOT sources)
		set(sources ${PROJECT_BINARY_DIR}/${name}_empty.c)
		file(CONFIGURE OUTPUT ${sources} CONTENT "typedef int ${name}_empty;\n")
	endif()

	add_library(${name}_objects OBJECT ${sources})
	set_target_properties(${name}_objects PROPERTIES
		C_VISIBILITY_PRESET hidden
		POSITION_INDEPENDENT_CODE ON)
	target_include_directories(${name}_objects PRIVATE ${PROJECT_SOURCE_DIR}/include)
	target_compile_definitions(${name}_objects PRIVATE
		FILELOCK_VERSION="${PROJECT_VERSION}")
	target_link_libraries(${name}_objects PRIVATE filelock_flags)
	foreach(used IN LISTS arg_USES)
		if(NOT TARGET ${used}_objects)
			target_link_libraries(${name}_objects PRIVATE ${used})
		endif()
	endforeach()

	if(FILELOCK_BUILD_SHARED)
		filelock_flavour(${name} shared SHARED)
		set_target_properties(${name}_shared PROPERTIES
			VERSION ${PROJECT_VERSION}
			SOVERSION ${PROJECT_VERSION_MAJOR}
			EXPORT_NAME ${arg_EXPORT_NAME})
		add_library(filelock::${arg_EXPORT_NAME} ALIAS ${name}_shared)
		filelock_version_script(${name}_shared ${arg_DIRECTORY}/${name}.map.in)
	endif()
	if(FILELOCK_BUILD_STATIC)
		filelock_flavour(${name} static STATIC)
		set_target_properties(${name}_static PROPERTIES
			EXPORT_NAME ${arg_EXPORT_NAME}_static)
		add_library(filelock::${arg_EXPORT_NAME}_static ALIAS ${name}_static)
		if(NOT FILELOCK_BUILD_SHARED)
			add_library(filelock::${arg_EXPORT_NAME} ALIAS ${name}_static)
		endif()
	endif()
endfunction()

# One of the two; arg_… are those of filelock_library.
function(filelock_flavour name flavour type)
	set(target ${name}_${flavour})
	add_library(${target} ${type} $<TARGET_OBJECTS:${name}_objects>)
	set_target_properties(${target} PROPERTIES OUTPUT_NAME ${name} LINKER_LANGUAGE C)
	target_sources(${target} PUBLIC FILE_SET HEADERS
		BASE_DIRS ${PROJECT_SOURCE_DIR}/include)
	foreach(header IN LISTS arg_HEADERS)
		target_sources(${target} PUBLIC FILE_SET HEADERS
			FILES ${PROJECT_SOURCE_DIR}/include/${header})
	endforeach()
	if(FILELOCK_SANITIZE)
		target_link_options(${target} PUBLIC
			$<BUILD_INTERFACE:-fsanitize=${FILELOCK_SANITIZE}>)
	endif()
	target_link_libraries(${target} PRIVATE Threads::Threads)
	foreach(used IN LISTS arg_USES)
		if(TARGET ${used}_${flavour})
			set(used ${used}_${flavour})
		endif()
		target_link_libraries(${target} PUBLIC ${used})
	endforeach()
endfunction()

function(filelock_version_script target template)
	cmake_path(GET template STEM LAST_ONLY stem)
	set(script ${PROJECT_BINARY_DIR}/${stem})
	configure_file(${PROJECT_SOURCE_DIR}/${template} ${script} @ONLY)
	target_link_options(${target} PRIVATE "LINKER:--version-script=${script}")
	if(NOT FILELOCK_SANITIZE) # their run-time library comes with the program
		target_link_options(${target} PRIVATE "LINKER:--no-undefined")
	endif()
	set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${script})
endfunction()
