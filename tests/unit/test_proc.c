/* The parsers of /proc, on recorded texts and on garbage. */
#include <errno.h>
#include <string.h>

#include "base/proc.h"
#include "support.h"

START_TEST(test_exclusive_flock_line_is_read)
{
	struct proc_lock lock;

	ck_assert(proc_parse_lock("12: FLOCK  ADVISORY  WRITE 4242 fe:0a:1054723 0 EOF", &lock));
	ck_assert_int_eq(lock.pid, 4242);
	ck_assert_int_eq(lock.mode, FILELOCK_EXCLUSIVE);
	ck_assert_uint_eq(lock.device.major, 0xfe);
	ck_assert_uint_eq(lock.device.minor, 0x0a);
	ck_assert_uint_eq(lock.inode, 1054723);
}
END_TEST

START_TEST(test_shared_flock_line_is_read)
{
	struct proc_lock lock;

	ck_assert(proc_parse_lock("1: FLOCK  ADVISORY  READ  1 00:1b:18446744073709551615 0 EOF",
	                          &lock));
	ck_assert_int_eq(lock.mode, FILELOCK_SHARED);
	ck_assert_uint_eq(lock.inode, UINT64_MAX);
}
END_TEST

START_TEST(test_holder_without_a_pid_here_is_pid_zero)
{
	struct proc_lock lock = { .pid = 7 };

	ck_assert(proc_parse_lock("1: FLOCK  ADVISORY  WRITE 0 fe:00:5 0 EOF", &lock));
	ck_assert_int_eq(lock.pid, 0);
	lock.pid = 7;
	ck_assert(proc_parse_lock("1: FLOCK  ADVISORY  WRITE -77 fe:00:5 0 EOF", &lock));
	ck_assert_int_eq(lock.pid, 0);
}
END_TEST

static const char *const not_a_held_flock[] = {
	"",
	"1:",
	"1: -> FLOCK  ADVISORY  WRITE 4242 fe:00:1054723 0 EOF",
	"1:  -> FLOCK  ADVISORY  WRITE 4242 fe:00:1054723 0 EOF",
	"1: POSIX  ADVISORY  WRITE 4242 fe:00:1054723 0 EOF",
	"1: OFDLCK ADVISORY  WRITE -1 fe:00:1054723 0 EOF",
	"1: LEASE  ACTIVE    READ  4242 fe:00:1054723 0 EOF",
	"1: FLOCKS ADVISORY  WRITE 4242 fe:00:1054723 0 EOF",
	"1: FLOCK  ADVISORY  UNLCK 4242 fe:00:1054723 0 EOF",
	"1: FLOCK  ADVISORY  WRITE",
	"1: FLOCK  ADVISORY  WRITE ",
	"1: FLOCK  ADVISORY  WRITE 4242",
	"1: FLOCK  ADVISORY  WRITE 4242 <none>:0 0 EOF",
	"1: FLOCK  ADVISORY  WRITE 4242 fe:00: 0 EOF",
	"1: FLOCK  ADVISORY  WRITE 4242 fe:00",
	"1: FLOCK  ADVISORY  WRITE 2147483648 fe:00:1 0 EOF",
	"1: FLOCK  ADVISORY  WRITE 1 fe:00:18446744073709551616 0 EOF",
	"1: FLOCK  ADVISORY  WRITE 1 100000000:00:1 0 EOF",
	"FLOCK  ADVISORY  WRITE 4242 fe:00:1054723 0 EOF",
	"99999999999999999999999: FLOCK  ADVISORY  WRITE 1 fe:00:1 0 EOF",
	"\xff\xfe\x80",
};

START_TEST(test_other_lines_of_proc_locks_are_refused)
{
	const char *line = not_a_held_flock[_i];
	struct proc_lock lock = { .pid = 7 };

	ck_assert_msg(!proc_parse_lock(line, &lock), "%s", line);
	ck_assert_int_eq(lock.pid, 7);
}
END_TEST

START_TEST(test_mount_line_gives_its_number_and_device)
{
	struct proc_device device;
	uint64_t id;

	ck_assert(proc_parse_mount("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 "
	                           "/dev/root rw,errors=continue",
	                           &id, &device));
	ck_assert_uint_eq(id, 36);
	ck_assert_uint_eq(device.major, 98);
	ck_assert_uint_eq(device.minor, 0);
}
END_TEST

START_TEST(test_malformed_mount_lines_are_refused)
{
	static const char *const lines[] = {
		"", "36", "36 ", "36 35", "36 35 98", "36 35 98:", "36 35 98:0", "a 35 98:0 /",
		"36 b 98:0 /", "36 35 98:0x /", "36 35 4294967296:0 /", "-1 35 98:0 /",
	};
	struct proc_device device;
	uint64_t id = 1;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		ck_assert_msg(!proc_parse_mount(lines[i], &id, &device), "%s", lines[i]);
	ck_assert_uint_eq(id, 1);
}
END_TEST

START_TEST(test_fdinfo_values_are_found_by_whole_name)
{
	static const char text[] = "pos:\t0\nflags:\t02100000\nxmnt_id:\t1\nmnt_id:\t27\nino:\t99\n";
	uint64_t value = 0;

	ck_assert(proc_parse_fdinfo(text, "mnt_id", &value));
	ck_assert_uint_eq(value, 27);
	ck_assert(proc_parse_fdinfo(text, "ino", &value));
	ck_assert_uint_eq(value, 99);
	ck_assert(!proc_parse_fdinfo(text, "mnt", &value));
	ck_assert(!proc_parse_fdinfo("mnt_id:\n1", "mnt_id", &value));
	ck_assert(!proc_parse_fdinfo("mnt_id", "mnt_id", &value));
	ck_assert(!proc_parse_fdinfo("", "mnt_id", &value));
}
END_TEST

#define STAT_TAIL                                                                              \
	" S 1 4242 4242 0 -1 4194560 141 0 0 0 0 0 0 0 20 0 3 0 123456 9830400 400 "           \
	"18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n"

START_TEST(test_process_is_read_behind_any_command_name)
{
	static const char *const names[] = {
		"4242 (cat)" STAT_TAIL,
		"4242 (a b) c) d)" STAT_TAIL,
		"4242 ()) R 1 2 3)" STAT_TAIL,
		"4242 (new\nline)" STAT_TAIL,
	};
	struct proc_process process;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		ck_assert_msg(proc_parse_process(names[i], &process), "%s", names[i]);
		ck_assert_int_eq(process.state, 'S');
		ck_assert_uint_eq(process.threads, 3);
		ck_assert_uint_eq(process.start, 123456);
	}
}
END_TEST

START_TEST(test_cut_process_text_is_refused_at_every_length)
{
	static const char text[] = "4242 (cat)" STAT_TAIL;
	const size_t enough = (size_t)(strstr(text, "123456") - text) + 1;
	struct proc_process process;
	char cut[sizeof(text)];

	for (size_t length = 0; length < enough; length++) {
		memcpy(cut, text, length);
		cut[length] = '\0';
		ck_assert_msg(!proc_parse_process(cut, &process), "%s", cut);
	}
}
END_TEST

START_TEST(test_boot_time_is_the_line_btime)
{
	int64_t boot = 5;

	ck_assert(!proc_parse_boot_time("cpu  1 2 3", &boot));
	ck_assert(!proc_parse_boot_time("btime", &boot));
	ck_assert(!proc_parse_boot_time("btime ", &boot));
	ck_assert(!proc_parse_boot_time("btime -1", &boot));
	ck_assert(!proc_parse_boot_time("btime 9223372036854775807", &boot));
	ck_assert_int_eq(boot, 5);
	ck_assert(proc_parse_boot_time("btime 1700000000", &boot));
	ck_assert_int_eq(boot, 1700000000);
}
END_TEST

/* Every parser, on texts made of what it knows, shuffled and cut: nothing but a verdict. */
START_TEST(test_parsers_survive_garbage)
{
	static const char *const pieces[] = {
		"1", ":", " ", "FLOCK", "ADVISORY", "WRITE", "READ", "->", "fe", "-", ")", "(",
		"mnt_id", "\t", "\n", "btime", "4294967296", "\x80", "S", "0 EOF",
	};
	unsigned seed = 1;
	char text[256];

	for (unsigned round = 0; round < test_rounds(20000); round++) {
		struct proc_process process;
		struct proc_device device;
		struct proc_lock lock;
		uint64_t value;
		int64_t boot;

		text[0] = '\0';
		for (int i = rand_r(&seed) % 24; i > 0; i--)
			strcat(text, pieces[(size_t)rand_r(&seed) % (sizeof(pieces) / sizeof(*pieces))]);
		if (proc_parse_lock(text, &lock))
			ck_assert_int_ge(lock.pid, 0);
		(void)proc_parse_mount(text, &value, &device);
		(void)proc_parse_fdinfo(text, "mnt_id", &value);
		(void)proc_parse_process(text, &process);
		(void)proc_parse_boot_time(text, &boot);
	}
}
END_TEST

static void expect_lines(const char *content, size_t count, const char *const *expected)
{
	const char *path = test_path("lines");
	struct proc_lines lines;
	const char *line;

	test_write_file(path, content);
	ck_assert_int_eq(proc_lines_open(&lines, path), 0);
	for (size_t i = 0; i < count; i++) {
		ck_assert_int_eq(proc_lines_next(&lines, &line), 1);
		ck_assert_str_eq(line, expected[i]);
	}
	ck_assert_int_eq(proc_lines_next(&lines, &line), 0);
	ck_assert_int_eq(proc_lines_next(&lines, &line), 0);
	proc_lines_close(&lines);
}

START_TEST(test_lines_come_one_by_one)
{
	expect_lines("", 0, NULL);
	expect_lines("\n", 1, (const char *const[]){ "" });
	expect_lines("a\n\nb\n", 3, (const char *const[]){ "a", "", "b" });
	expect_lines("a\nlast", 2, (const char *const[]){ "a", "last" });
}
END_TEST

/* Lengths around the size of the buffer, each followed by a short line. */
START_TEST(test_too_long_line_is_cut_and_the_next_one_whole)
{
	enum { ROOM = sizeof(((struct proc_lines *)0)->buffer) - 1 };
	static char content[3 * ROOM + 16], expected[3 * ROOM + 16];

	for (size_t length = ROOM - 3; length < 2 * ROOM + 3;
	     length += length == ROOM + 3 ? ROOM - 6 : 1) {
		memset(content, 'x', length);
		strcpy(content + length, "\nnext\n");
		memset(expected, 'x', length);
		expected[length < ROOM ? length : ROOM] = '\0';
		expect_lines(content, 2, (const char *const[]){ expected, "next" });
	}
}
END_TEST

START_TEST(test_lines_survive_interrupted_and_failing_reads)
{
	const char *path = test_path("lines");
	struct proc_lines lines;
	const char *line;

	test_write_file(path, "a\n");
	fault_set(FAULT_read, 1, FAULT_ONCE, EINTR);
	ck_assert_int_eq(proc_lines_open(&lines, path), 0);
	ck_assert_int_eq(proc_lines_next(&lines, &line), 1);
	fault_set(FAULT_read, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(proc_lines_next(&lines, &line), -EIO);
	proc_lines_close(&lines);
	ck_assert_int_eq(proc_lines_open(&lines, test_path("none")), -ENOENT);
}
END_TEST

START_TEST(test_innermost_pid_is_the_last_one)
{
	pid_t pid = 0;
	unsigned depth = 0;

	ck_assert(proc_parse_innermost_pid("Name:\tx\nNSpid:\t4711\t12\t3\nNSpgid:\t1\n", &pid, &depth));
	ck_assert_int_eq(pid, 3);
	ck_assert_uint_eq(depth, 3);
	ck_assert(proc_parse_innermost_pid("NSpid:\t4711\n", &pid, &depth));
	ck_assert_int_eq(pid, 4711);
	ck_assert_uint_eq(depth, 1);
	ck_assert(!proc_parse_innermost_pid("Name:\tNSpid: 1\n", &pid, &depth));
	ck_assert(!proc_parse_innermost_pid("NSpid:\t\n", &pid, &depth));
	ck_assert(!proc_parse_innermost_pid("NSpid:\t12 x\n", &pid, &depth));
	ck_assert(!proc_parse_innermost_pid("NSpid:\t12", &pid, &depth));
	ck_assert(!proc_parse_innermost_pid("", &pid, &depth));
}
END_TEST

int main(void)
{
	Suite *suite = SUITE(
	        "proc", test_innermost_pid_is_the_last_one, test_exclusive_flock_line_is_read, test_shared_flock_line_is_read,
	        test_holder_without_a_pid_here_is_pid_zero,
	        test_mount_line_gives_its_number_and_device,
	        test_malformed_mount_lines_are_refused,
	        test_fdinfo_values_are_found_by_whole_name,
	        test_process_is_read_behind_any_command_name,
	        test_cut_process_text_is_refused_at_every_length,
	        test_boot_time_is_the_line_btime, test_parsers_survive_garbage,
	        test_lines_come_one_by_one, test_too_long_line_is_cut_and_the_next_one_whole,
	        test_lines_survive_interrupted_and_failing_reads);
	TCase *lines = tcase_create("lines");

	tcase_add_loop_test(lines, test_other_lines_of_proc_locks_are_refused, 0,
	                    sizeof(not_a_held_flock) / sizeof(not_a_held_flock[0]));
	suite_add_tcase(suite, lines);
	return support_main(suite);
}
