/*
 * probes.h - probes for tracers from outside (USDT), with cmake -DFILELOCK_USDT=ON. A probe that nobody
 * traces costs a nop and its arguments.
 *
 *	bpftrace -e 'usdt:/usr/local/lib/libfilelock_event.so.1:filelock:grant { @us = hist(arg2) }'
 */
#ifndef EVFILELOCK_PROBES_H
#define EVFILELOCK_PROBES_H

#ifdef FILELOCK_USDT
#include <sys/sdt.h>

#ifdef __clang__ /* of that header's macros, where they are used */
#pragma clang diagnostic ignored "-Wgnu-zero-variadic-macro-arguments"
#endif

#define PROBE_REQUEST(path, id, mode) DTRACE_PROBE3(filelock, request, path, id, mode)
#define PROBE_GRANT(path, id, us) DTRACE_PROBE3(filelock, grant, path, id, us)
#define PROBE_RELEASE(path, id) DTRACE_PROBE2(filelock, release, path, id)
#define PROBE_LOST(path) DTRACE_PROBE1(filelock, lost, path)
#else
#define PROBE_REQUEST(path, id, mode) ((void)0)
#define PROBE_GRANT(path, id, us) ((void)0)
#define PROBE_RELEASE(path, id) ((void)0)
#define PROBE_LOST(path) ((void)0)
#endif

#endif
