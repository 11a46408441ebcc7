/*
 * fuzz.h - what the fuzz targets share: a reader of the input, a check that stops the program, a
 * folder, a file that only the library sees.
 *
 * A target is LLVMFuzzerTestOneInput; main is libFuzzer's (FILELOCK_FUZZ) or that of replay.c,
 * which runs the files that it is given.
 */
#ifndef FILELOCK_TESTS_FUZZ_H
#define FILELOCK_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Also in a build without assertions. */
#define CHECK(condition)                                                  \
	do {                                                              \
		if (!(condition))                                         \
			fuzz_fail(__FILE__, __LINE__, #condition);        \
	} while (0)
_Noreturn void fuzz_fail(const char *file, int line, const char *condition);

/* The rest of the input; after its end it reads as zeros. */
struct input {
	const uint8_t *at;
	size_t left;
};
unsigned input_byte(struct input *input);
uint64_t input_number(struct input *input, unsigned bytes);
/* A piece of up to `most` bytes, whose length stands before it; NULL if that is 0. Borrowed. */
const uint8_t *input_piece(struct input *input, size_t most, size_t *ret_size);
/* A string of up to `most` bytes of the input, without zeros; to be freed. */
char *input_string(struct input *input, size_t most);

/* A folder of this process, in memory where there is /dev/shm; removed at exit. */
const char *fuzz_folder(void);
/* A path in it: static, good for three more calls. */
const char *fuzz_path(const char *name);
void fuzz_write(const char *path, const void *bytes, size_t size);

/* How many descriptors this process has open, of the first few hundred. */
unsigned fuzz_descriptors(void);

/* From now on the library reads these bytes where it opens `path`, each read(2) giving at most
   `piece` of them (0: all that fits). NULL: the system's own again. Borrowed. */
void fuzz_serve(const char *path, const void *bytes, size_t size, size_t piece);

#endif
