/*
 * readwrite_bytes.h - where SQLite locks: lockingv3.html, "Locking Implementation".
 */
#ifndef FILELOCK_READWRITE_BYTES_H
#define FILELOCK_READWRITE_BYTES_H

#include <stdint.h>

#define PENDING_BYTE UINT64_C(0x40000000)
#define RESERVED_BYTE UINT64_C(0x40000001)
#define SHARED_FIRST UINT64_C(0x40000002)
#define SHARED_LAST UINT64_C(0x400001ff)

#endif
