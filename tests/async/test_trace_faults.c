/* A file of trace events that cannot be opened, written, closed or kept in mind. */
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "memory.h"
#include "loop.h"

/* How the next write(2) and close(2) of this program fail. */
static struct {
	size_t at_least; /* a write of fewer bytes than this is no concern of ours; 0: none is */
	int write_error; /* 0: it writes no more than `most` */
	size_t most;
	unsigned writes;
	int close_error; /* 0: it does not fail */
} fault;

ssize_t write(int fd, const void *bytes, size_t size)
{
	if (fault.at_least > 0 && size >= fault.at_least) {
		fault.at_least = 0;
		fault.writes++;
		size = size < fault.most ? size : fault.most;
		errno = fault.write_error;
		if (fault.write_error)
			return -1;
	}
	return syscall(SYS_write, fd, bytes, size);
}

int close(int fd)
{
	int error = fault.close_error;
	int r = (int)syscall(SYS_close, fd);

	fault.close_error = 0;
	if (!error)
		return r;
	errno = error;
	return -1;
}

enum { EVENTS = 2000, LARGE = 32768 };

static void trace_path(struct evfilelock_trace *trace, const char *path)
{
	struct evfilelock_trace_event event = { .size = sizeof(event),
		                                .what = EVFILELOCK_TRACE_ATTEMPTED,
		                                .path = path,
		                                .request = 1,
		                                .time = 1234567 };

	evfilelock_trace_write(&event, trace);
}

static struct evfilelock_trace *open_trace(const char *path)
{
	struct evfilelock_trace *trace;

	ck_assert_int_eq(evfilelock_trace_open(path, &trace), 0);
	return trace;
}

/* More than the buffer holds, to be read into text, of at least a megabyte. */
static int write_events(char *text, size_t size)
{
	struct evfilelock_trace *trace = open_trace(test_path("trace"));
	int r;

	ck_assert_ptr_nonnull(trace);
	for (unsigned i = 0; i < EVENTS; i++)
		trace_path(trace, "a");
	r = evfilelock_trace_close(trace);
	test_read_file(test_path("trace"), text, size);
	return r;
}

static char whole[1 << 20], got[1 << 20];

START_TEST(test_write_that_is_interrupted_or_short_loses_nothing)
{
	static const struct {
		int error;
		size_t most;
	} ways[] = { { EINTR, 0 }, { 0, 1 }, { 0, 4096 } };

	ck_assert_int_eq(write_events(whole, sizeof(whole)), 0);
	ck_assert_uint_gt(strlen(whole), 2 * LARGE);
	fault.write_error = ways[_i].error;
	fault.most = ways[_i].most;
	fault.at_least = LARGE;
	ck_assert_int_eq(write_events(got, sizeof(got)), 0);
	ck_assert_uint_eq(fault.writes, 1);
	ck_assert_str_eq(got, whole);
}
END_TEST

START_TEST(test_nothing_follows_a_write_that_failed)
{
	fault.write_error = EIO;
	fault.at_least = LARGE;
	ck_assert_int_eq(write_events(got, sizeof(got)), -EIO);
	ck_assert_uint_eq(fault.writes, 1);
	ck_assert_str_eq(got, "");
}
END_TEST

START_TEST(test_failed_write_is_told_at_the_close)
{
	struct evfilelock_trace *trace = open_trace("/dev/full");

	ck_assert_ptr_nonnull(trace);
	for (unsigned i = 0; i < EVENTS; i++)
		trace_path(trace, "a");
	ck_assert_int_eq(evfilelock_trace_close(trace), -ENOSPC);
}
END_TEST

START_TEST(test_failed_close_is_told_unless_something_failed_before)
{
	struct evfilelock_trace *trace = open_trace(test_path("trace"));

	trace_path(trace, "a");
	fault.close_error = EDQUOT;
	ck_assert_int_eq(evfilelock_trace_close(trace), -EDQUOT);
	trace = open_trace("/dev/full");
	fault.close_error = EDQUOT;
	ck_assert_int_eq(evfilelock_trace_close(trace), -ENOSPC);
}
END_TEST

START_TEST(test_path_that_cannot_be_opened_is_told)
{
	struct evfilelock_trace *trace;

	ck_assert_int_eq(evfilelock_trace_open(test_path("missing/trace"), &trace), -ENOENT);
	ck_assert_int_eq(evfilelock_trace_open(NULL, &trace), -EINVAL);
	ck_assert_int_eq(evfilelock_trace_open(test_path("trace"), NULL), -EINVAL);
	ck_assert_int_eq(evfilelock_trace_close(NULL), 0);
}
END_TEST

#ifndef SANITIZED
START_TEST(test_trace_without_memory_is_refused)
{
	const char *path = test_path("trace");
	struct evfilelock_trace *trace;
	int r;

	failing.count = 0;
	failing.nth = 1;
	r = evfilelock_trace_open(path, &trace);
	heal();
	ck_assert_int_eq(r, -ENOMEM);
	ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

/* The table of paths, or the path in it. */
START_TEST(test_event_without_memory_is_left_out_and_told_at_the_close)
{
	struct evfilelock_trace *trace = open_trace(test_path("trace"));

	failing.count = 0;
	failing.nth = (unsigned)_i + 1;
	trace_path(trace, "path-a");
	heal();
	trace_path(trace, "path-b");
	ck_assert_int_eq(evfilelock_trace_close(trace), -ENOMEM);
	test_read_file(test_path("trace"), got, sizeof(got));
	ck_assert_ptr_null(strstr(got, "path-a"));
	ck_assert_ptr_nonnull(strstr(got, "path-b"));
	ck_assert_str_eq(got + strlen(got) - 3, "\n]\n");
}
END_TEST
#endif

int main(void)
{
	Suite *suite = SUITE("async trace faults", test_nothing_follows_a_write_that_failed,
	                     test_failed_write_is_told_at_the_close,
	                     test_failed_close_is_told_unless_something_failed_before,
	                     test_path_that_cannot_be_opened_is_told);
	TCase *ways = tcase_create("ways");

	tcase_add_loop_test(ways, test_write_that_is_interrupted_or_short_loses_nothing, 0, 3);
#ifndef SANITIZED
	tcase_add_test(ways, test_trace_without_memory_is_refused);
	tcase_add_loop_test(ways, test_event_without_memory_is_left_out_and_told_at_the_close, 0,
	                    2);
#endif
	suite_add_tcase(suite, ways);
	return support_main(suite);
}
