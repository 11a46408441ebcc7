#include "base/sha256.h"

#include <string.h>

enum { BLOCK = 64, LENGTH = 8 };

static const uint32_t round_constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, int by)
{
	return x >> by | x << (32 - by);
}

static uint32_t load(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void store(uint8_t *ret, uint32_t x)
{
	for (int i = 0; i < 4; i++)
		ret[i] = (uint8_t)(x >> (24 - 8 * i));
}

/* The message schedule, W in the standard. */
static void expand(const uint8_t *block, uint32_t w[64])
{
	for (int i = 0; i < 16; i++)
		w[i] = load(block + 4 * i);
	for (int i = 16; i < 64; i++) {
		uint32_t a = w[i - 15], b = w[i - 2];

		w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
		       (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
	}
}

/* One round on the working variables a to h. */
static void mix(uint32_t v[8], uint32_t input)
{
	uint32_t a = v[0], e = v[4];
	uint32_t t1 = v[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
	              ((e & v[5]) ^ (~e & v[6])) + input;
	uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) +
	              ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));

	memmove(v + 1, v, 7 * sizeof(*v));
	v[4] += t1;
	v[0] = t1 + t2;
}

static void compress(uint32_t state[8], const uint8_t *block)
{
	uint32_t w[64], v[8];

	expand(block, w);
	memcpy(v, state, sizeof(v));
	for (int i = 0; i < 64; i++)
		mix(v, round_constants[i] + w[i]);
	for (int i = 0; i < 8; i++)
		state[i] += v[i];
}

/* The last one or two blocks: the rest of the message, a bit, zeros, the length in bits. */
static void finish(uint32_t state[8], const uint8_t *rest, size_t left, uint64_t size)
{
	uint8_t last[2 * BLOCK] = { 0 };
	size_t blocks = left + 1 + LENGTH > BLOCK ? 2 : 1;
	uint8_t *length = last + blocks * BLOCK - LENGTH;

	if (left > 0)
		memcpy(last, rest, left);
	last[left] = 0x80;
	store(length, (uint32_t)(size >> 29));
	store(length + 4, (uint32_t)(size << 3));
	for (size_t i = 0; i < blocks; i++)
		compress(state, last + i * BLOCK);
}

void sha256(const void *bytes, size_t size, uint8_t ret_digest[32])
{
	uint32_t state[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		              0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	const uint8_t *p = bytes;
	size_t left = size;

	for (; left >= BLOCK; left -= BLOCK, p += BLOCK)
		compress(state, p);
	finish(state, p, left, size);
	for (int i = 0; i < 8; i++)
		store(ret_digest + 4 * i, state[i]);
}
