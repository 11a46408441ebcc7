/*
 * sha256.h - SHA-256 (FIPS 180-4) of a few bytes: Python's filelock shortens long host names by it.
 */
#ifndef FILELOCK_SHA256_H
#define FILELOCK_SHA256_H

#include <stddef.h>
#include <stdint.h>

void sha256(const void *bytes, size_t size, uint8_t ret_digest[32]);

#endif
