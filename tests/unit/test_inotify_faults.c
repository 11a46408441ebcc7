/* The watcher where calls fail, in a forked child, and between two threads. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "handle.h"
#include "support.h"
#include "base/sys.h"
#include "inotify.h"

enum { LOCKS = 3 };

static unsigned wakes[LOCKS];

static void note_wake(struct filelock *lock, void *arg)
{
	(void)lock;
	++*(unsigned *)arg;
}

static struct filelock_driver driver = { .woken = note_wake };
static struct filelock *locks[LOCKS]; /* whose wakes are counted */
static struct subscription subscriptions[LOCKS];

static void set_up(void)
{
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	for (int i = 0; i < LOCKS; i++) {
		locks[i] = test_open(test_path("lock"), NULL);
		ck_assert_int_eq(filelock_begin(locks[i], FILELOCK_EXCLUSIVE, FILELOCK_NEVER,
		                                &driver, &wakes[i]), 0);
	}
}

static void tear_down(void)
{
	for (int i = 0; i < LOCKS; i++) {
		inotify_unsubscribe(&subscriptions[i]);
		filelock_close(locks[i]);
	}
	filelock_watcher_tidy(driver.watcher);
	filelock_watcher_free(driver.watcher);
}

/* The ith of the locks asks for its own: deletions in a folder, of one name or of any. */
static int subscribe(int i, const char *folder, const char *name)
{
	return inotify_subscribe(driver.watcher, &subscriptions[i], locks[i], folder, IN_DELETE,
	                         name);
}

/* False: this system has no pidfds (nor has valgrind), and the test is skipped. */
static bool subscribe_process(int i, pid_t pid)
{
	int r = inotify_subscribe_process(driver.watcher, &subscriptions[i], locks[i], pid);

	if (r == -ENOSYS) {
		test_skip("no pidfd_open(2) here");
		return false;
	}
	ck_assert_int_eq(r, 0);
	return true;
}

static void remove_file(const char *name)
{
	test_write_file(test_path(name), "");
	ck_assert_int_eq(unlink(test_path(name)), 0);
}

static bool is_readable(int fd)
{
	struct pollfd poll_fd = { fd, POLLIN, 0 };

	return poll(&poll_fd, 1, 0) > 0;
}

/* Both descriptors are to be waited for as one: without that there is no watch. */
START_TEST(test_inotify_that_cannot_be_joined_is_closed)
{
	unsigned descriptors;

	set_up();
	if (!subscribe_process(0, getpid()))
		return;
	descriptors = test_descriptors();
	fault_set(FAULT_epoll_ctl, 1, FAULT_ONCE, ENOSPC);
	ck_assert_int_eq(subscribe(1, test_folder(), "name"), -ENOSPC);
	ck_assert(!inotify_is_subscribed(&subscriptions[1]));
	ck_assert_uint_eq(test_descriptors(), descriptors);
	ck_assert_int_eq(subscribe(1, test_folder(), "name"), 0);
	remove_file("name");
	ck_assert(is_readable(filelock_watcher_fd(driver.watcher)));
	filelock_watcher_dispatch(driver.watcher);
	ck_assert_uint_eq(wakes[1], 1);
	tear_down();
}
END_TEST

static int end_at_once(void *arg)
{
	(void)arg;
	return 0;
}

START_TEST(test_death_is_told_though_its_look_was_interrupted)
{
	pid_t child;

	set_up();
	child = test_fork(end_at_once, NULL);
	if (!subscribe_process(0, child))
		return;
	ck_assert_int_eq(test_reap(child), 0);
	fault_set(FAULT_epoll_wait, 1, FAULT_ONCE, EINTR);
	filelock_watcher_dispatch(driver.watcher);
	ck_assert_uint_eq(fault_hits(FAULT_epoll_wait), 1);
	ck_assert_uint_eq(wakes[0], 1);
	ck_assert(!inotify_is_subscribed(&subscriptions[0]));
	ck_assert_int_eq(subscribe(1, test_folder(), "name"), 0); /* it still can be watched by */
	tear_down();
}
END_TEST

static int use_in_child(void *arg)
{
	(void)arg;
	fault_watch();
	ck_assert_int_eq(subscribe(2, test_folder(), NULL), FILELOCK_EFORKED);
	ck_assert(!inotify_is_subscribed(&subscriptions[2]));
	filelock_watcher_dispatch(driver.watcher);
	filelock_watcher_tidy(driver.watcher);
	ck_assert_uint_eq(fault_calls(FAULT_read), 0);
	ck_assert_uint_eq(fault_calls(FAULT_inotify_rm_watch), 0);
	filelock_watcher_free(driver.watcher);
	return wakes[0] > 0;
}

START_TEST(test_child_can_do_nothing_with_its_parents_watcher_but_free_it)
{
	set_up();
	ck_assert_int_eq(mkdir(test_path("folder"), 0700), 0);
	ck_assert_int_eq(subscribe(0, test_folder(), "name"), 0);
	ck_assert_int_eq(subscribe(1, test_path("folder"), NULL), 0);
	inotify_unsubscribe(&subscriptions[1]); /* its watch is idle */
	remove_file("name");
	ck_assert_int_eq(test_in_child(use_in_child, NULL), 0);
	ck_assert_uint_eq(test_watches(), 2);
	filelock_watcher_dispatch(driver.watcher);
	ck_assert_uint_eq(wakes[0], 1);
	tear_down();
}
END_TEST

/* As by the loop's thread, while another one is inside inotify_add_watch(2). */
static int (*real_add_watch)(int fd, const char *path, uint32_t mask);
static unsigned additions;

static int add_and_tidy(int fd, const char *path, uint32_t mask)
{
	int wd = real_add_watch(fd, path, mask);

	additions++;
	filelock_watcher_tidy(driver.watcher);
	return wd;
}

START_TEST(test_watch_that_is_had_already_is_not_added_twice_when_another_goes)
{
	set_up();
	ck_assert_int_eq(mkdir(test_path("folder"), 0700), 0);
	ck_assert_int_eq(subscribe(0, test_folder(), "name"), 0);
	ck_assert_int_eq(subscribe(1, test_path("folder"), NULL), 0);
	inotify_unsubscribe(&subscriptions[1]);
	real_add_watch = sys.inotify_add_watch;
	sys.inotify_add_watch = add_and_tidy;
	ck_assert_int_eq(subscribe(2, test_folder(), "name"), 0);
	ck_assert_uint_eq(additions, 1);
	ck_assert_uint_eq(test_watches(), 1);
	remove_file("name");
	filelock_watcher_dispatch(driver.watcher);
	ck_assert_uint_eq(wakes[0] + wakes[2], 2);
	tear_down();
}
END_TEST

/* Bytes that the next read(2) of the library gives, as if from inotify. */
static struct {
	_Alignas(struct inotify_event) char bytes[sizeof(struct inotify_event) + 16];
} forged;

static ssize_t read_forged(int fd, void *buffer, size_t size)
{
	(void)fd;
	ck_assert_uint_ge(size, sizeof(forged));
	memcpy(buffer, &forged, sizeof(forged));
	return sizeof(forged);
}

static void forge(int wd, uint32_t mask, const char *name)
{
	struct inotify_event event = { .wd = wd, .mask = mask, .len = 16 };

	memset(&forged, 0, sizeof(forged));
	memcpy(&forged, &event, sizeof(event));
	(void)snprintf(forged.bytes + sizeof(event), 16, "%s", name);
	sys.read = read_forged;
	memset(wakes, 0, sizeof(wakes));
	filelock_watcher_dispatch(driver.watcher);
}

/* Texts that hash alike as names in the first folder; as one in the first and one in the second. */
#define NAME "WILA0AjDz_1"
#define ALIKE "G81oCKML9iJ"
#define FIRST "j__znBYp9S2"
#define SECOND "i__znBYp9S2"

START_TEST(test_names_that_hash_alike_are_told_apart)
{
	set_up();
	if (sizeof(size_t) == 8) {
		ck_assert_uint_eq(hash_bytes(NAME, strlen(NAME), 1),
		                  hash_bytes(ALIKE, strlen(ALIKE), 1));
		ck_assert_uint_eq(hash_bytes(FIRST, strlen(FIRST), 1),
		                  hash_bytes(SECOND, strlen(SECOND), 2));
	}
	ck_assert_int_eq(mkdir(test_path("folder"), 0700), 0);
	ck_assert_int_eq(subscribe(0, test_folder(), NAME), 0); /* the kernel's 1 */
	ck_assert_int_eq(subscribe(1, test_path("folder"), SECOND), 0); /* and 2 */
	forge(1, IN_DELETE, ALIKE);
	ck_assert_uint_eq(wakes[0] + wakes[1], 0);
	forge(1, IN_DELETE, FIRST);
	ck_assert_uint_eq(wakes[0] + wakes[1], 0);
	forge(1, IN_CREATE, NAME); /* not asked for */
	ck_assert_uint_eq(wakes[0] + wakes[1], 0);
	forge(1, IN_DELETE, NAME);
	ck_assert_uint_eq(wakes[0], 1);
	forge(2, IN_DELETE, SECOND);
	ck_assert_uint_eq(wakes[1], 1);
	tear_down();
}
END_TEST

static struct {
	pthread_t thread;
	_Atomic pid_t tid;
} unsubscriber;

static void *unsubscribe_first(void *arg)
{
	unsubscriber.tid = (pid_t)syscall(SYS_gettid);
	inotify_unsubscribe(&subscriptions[0]);
	return arg;
}

/* The dispatch, which has the mutex, is told that the watch is lost once somebody else has found
   it there, and waits. */
static ssize_t read_loss(int fd, void *buffer, size_t size)
{
	(void)fd;
	(void)size;
	ck_assert_int_eq(pthread_create(&unsubscriber.thread, NULL, unsubscribe_first, NULL), 0);
	await(unsubscriber.tid > 0 && test_waits_for_a_mutex(unsubscriber.tid));
	memcpy(buffer, &(struct inotify_event){ .wd = 1, .mask = IN_IGNORED },
	       sizeof(struct inotify_event));
	return sizeof(struct inotify_event);
}

START_TEST(test_watch_that_is_lost_as_it_is_given_up_is_given_up_once)
{
	if (!test_knows_waits())
		return;
	set_up();
	ck_assert_int_eq(subscribe(0, test_folder(), "name"), 0);
	sys.read = read_loss;
	filelock_watcher_dispatch(driver.watcher);
	ck_assert_int_eq(pthread_join(unsubscriber.thread, NULL), 0);
	ck_assert(!inotify_is_subscribed(&subscriptions[0]));
	ck_assert_uint_eq(wakes[0], 1);
	/* else a count below zero would keep the next one's watch */
	sys.read = read;
	ck_assert_int_eq(subscribe(1, test_folder(), "name"), 0);
	remove_file("name");
	filelock_watcher_dispatch(driver.watcher);
	ck_assert_uint_eq(wakes[1], 1);
	inotify_unsubscribe(&subscriptions[1]);
	filelock_watcher_tidy(driver.watcher);
	ck_assert_uint_eq(test_watches(), 0);
	tear_down();
}
END_TEST

static unsigned warnings;
static char warning[512];

static void note_warning(enum filelock_log_level level, const char *message, void *arg)
{
	(void)arg;
	warnings += level == FILELOCK_LOG_WARNING;
	(void)snprintf(warning, sizeof(warning), "%s", message);
}

START_TEST(test_polling_for_want_of_inotify_is_said_once_a_watcher)
{
	static const struct {
		enum fault_call call;
		int error;
	} wants[] = { { FAULT_inotify_init1, EMFILE }, { FAULT_inotify_add_watch, ENOSPC } };

	set_up();
	filelock_set_log(note_warning, NULL, FILELOCK_LOG_WARNING);
	fault_set(wants[_i].call, 1, FAULT_FOR_GOOD, wants[_i].error);
	for (int i = 0; i < LOCKS; i++)
		ck_assert_int_eq(subscribe(i, test_folder(), NULL), -wants[_i].error);
	ck_assert_uint_eq(warnings, 1);
	ck_assert_ptr_nonnull(strstr(warning, "max_user_instances"));
	filelock_set_log(NULL, NULL, FILELOCK_LOG_ERROR);
	tear_down();
}
END_TEST

START_TEST(test_folder_that_is_gone_is_no_want_of_inotify)
{
	set_up();
	filelock_set_log(note_warning, NULL, FILELOCK_LOG_WARNING);
	ck_assert_int_eq(subscribe(0, test_path("nothing"), NULL), -ENOENT);
	ck_assert_uint_eq(warnings, 0);
	filelock_set_log(NULL, NULL, FILELOCK_LOG_ERROR);
	tear_down();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("inotify faults");
	TCase *tcase = tcase_create("inotify faults");

	tcase_add_test(tcase, test_inotify_that_cannot_be_joined_is_closed);
	tcase_add_test(tcase, test_death_is_told_though_its_look_was_interrupted);
	tcase_add_test(tcase, test_child_can_do_nothing_with_its_parents_watcher_but_free_it);
	tcase_add_test(tcase, test_watch_that_is_had_already_is_not_added_twice_when_another_goes);
	tcase_add_test(tcase, test_names_that_hash_alike_are_told_apart);
	tcase_add_test(tcase, test_watch_that_is_lost_as_it_is_given_up_is_given_up_once);
	tcase_add_loop_test(tcase, test_polling_for_want_of_inotify_is_said_once_a_watcher, 0, 2);
	tcase_add_test(tcase, test_folder_that_is_gone_is_no_want_of_inotify);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
