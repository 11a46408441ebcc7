/* Soft read/write locks between processes: who is in, who is dead, who has lost. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/magic.h"
#include "base/sys.h"
#include "softly.h"

#define SHARED FILELOCK_SHARED
#define EXCLUSIVE FILELOCK_EXCLUSIVE

static int attempt_once(const char *path, enum filelock_mode mode)
{
	struct filelock *lock = test_open(path, NULL);
	int r = filelock_acquire(lock, mode, FILELOCK_NO_WAIT);

	filelock_close(lock);
	return r;
}

/* Only events end its wait in time. */
static struct filelock_options rarely_polling(void)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = 3600000;
	options.duration_ms = 10800000;
	return options;
}

static void start_waiting(struct peer *peer, const char *path, enum filelock_mode mode)
{
	struct filelock_options options = rarely_polling();

	peer_start(peer);
	ck_assert_int_eq(peer_open(peer, path, &options), 0);
	peer_order_acquire(peer, mode, FILELOCK_WAIT_FOREVER);
	peer_await_notice(peer);
}

/* Files in a folder of the lock, but those of names that begin with `but`. */
static unsigned count_files(const char *folder, char but)
{
	struct dirent **entries;
	unsigned count = 0;
	int n = scandir(test_path(folder), &entries, NULL, alphasort);

	ck_assert_int_ge(n, 0);
	for (int i = 0; i < n; i++) {
		count += entries[i]->d_name[0] != '.' && entries[i]->d_name[0] != but;
		free(entries[i]);
	}
	free(entries);
	return count;
}

static unsigned holders(void)
{
	return count_files("lock.rw/holders", '\0');
}

/* The record of the only member. */
static void read_record(char *text, size_t size)
{
	struct dirent **entries;
	int n = scandir(test_path("lock.rw/holders"), &entries, NULL, alphasort);
	char path[512];

	ck_assert_int_eq(n, 3);
	(void)snprintf(path, sizeof(path), "lock.rw/holders/%s", entries[2]->d_name);
	test_read_file(test_path(path), text, size);
	for (int i = 0; i < n; i++)
		free(entries[i]);
	free(entries);
}

/* It could be acquired, and not released. */
START_TEST(test_path_too_long_for_its_log_is_refused)
{
	const size_t most = PATH_MAX - sizeof(".rw/gen");
	struct filelock *lock = NULL;
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(path); i++)
		path[i] = i % 2 ? 'd' : '/';
	path[most] = 'd'; /* and no slash at the end */
	path[most + 1] = '\0';
	ck_assert_int_eq(filelock_open(path, FILELOCK_SOFT_READWRITE, NULL, &lock), -ENAMETOOLONG);
	ck_assert_ptr_null(lock);
	path[most] = '\0';
	ck_assert_int_eq(filelock_open(path, FILELOCK_SOFT_READWRITE, NULL, &lock), 0);
	filelock_close(lock);
}
END_TEST

/* --- who is in --- */

/* shows: shared-together */
START_TEST(test_readers_overlap_and_a_writer_excludes)
{
	struct peer reader, other;

	peer_start_holding(&reader, test_path("lock"), SHARED);
	peer_start_holding(&other, test_path("lock"), SHARED);
	ck_assert_int_eq(attempt_once(test_path("lock"), EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(attempt_once(test_path("lock"), SHARED), 0);
	ck_assert_int_eq(peer_release(&reader), 0);
	ck_assert_int_eq(attempt_once(test_path("lock"), EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(peer_release(&other), 0);
	ck_assert_int_eq(peer_acquire(&other, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(attempt_once(test_path("lock"), SHARED), -ETIMEDOUT);
	ck_assert_int_eq(attempt_once(test_path("lock"), EXCLUSIVE), -ETIMEDOUT);
	peer_stop(&reader);
	peer_stop(&other);
}
END_TEST

/* shows: rw-writer-first */
START_TEST(test_waiting_writer_keeps_new_readers_out)
{
	struct peer reader, writer;

	peer_start_holding(&reader, test_path("lock"), SHARED);
	start_waiting(&writer, test_path("lock"), EXCLUSIVE);
	ck_assert_int_eq(attempt_once(test_path("lock"), SHARED), -ETIMEDOUT);
	ck_assert_int_eq(peer_release(&reader), 0);
	ck_assert_int_eq(peer_answer(&writer), 0);
	peer_stop(&reader);
	peer_stop(&writer);
}
END_TEST

/* shows: rw-writer-first */
START_TEST(test_writer_that_gives_up_lets_readers_in_again)
{
	struct peer reader;

	peer_start_holding(&reader, test_path("lock"), SHARED);
	ck_assert_int_eq(attempt_once(test_path("lock"), EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(attempt_once(test_path("lock"), SHARED), 0);
	ck_assert_uint_eq(holders(), 1);
	peer_stop(&reader);
}
END_TEST

/* shows: rw-nothing-left */
START_TEST(test_nothing_but_the_log_stays)
{
	unsigned before = test_descriptors();
	struct filelock *lock = test_open(test_path("lock"), NULL);

	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(filelock_acquire(lock, i ? SHARED : EXCLUSIVE, 0), 0);
		ck_assert_uint_eq(holders(), 1);
		ck_assert_int_eq(filelock_release(lock), 0);
		ck_assert_uint_eq(holders(), 0);
		ck_assert_uint_eq(test_descriptors(), before);
	}
	ck_assert_uint_eq(count_files("lock.rw/gen", 'H'), 4 + 1); /* and the epoch */
	ck_assert_int_eq(access(test_path("lock"), F_OK), -1);
	filelock_close(lock);
}
END_TEST

/* shows: rw-one-successor */
START_TEST(test_token_grows_from_hold_to_hold)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	uint64_t token, last = 0;

	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(filelock_acquire(lock, i % 2 ? SHARED : EXCLUSIVE, 0), 0);
		ck_assert_int_eq(filelock_token(lock, &token), 0);
		ck_assert_uint_gt(token, last);
		last = token;
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	filelock_close(lock);
}
END_TEST

START_TEST(test_holder_is_named)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct peer holder;

	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_ENOHOLDER);
	peer_start_holding(&holder, test_path("lock"), SHARED);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, holder.pid);
	ck_assert_int_eq(owner.mode, SHARED);
	ck_assert(!owner.ours);
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_ENOHOLDER);
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.mode, EXCLUSIVE);
	ck_assert(owner.ours);
	peer_stop(&holder);
	filelock_close(lock);
}
END_TEST

/* --- wake-ups --- */

START_TEST(test_release_wakes_whom_it_lets_in)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct peer waiter;

	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(filelock_acquire(lock, i == 1 ? SHARED : EXCLUSIVE, 0), 0);
		start_waiting(&waiter, test_path("lock"), i == 2 ? SHARED : EXCLUSIVE);
		ck_assert_int_eq(filelock_release(lock), 0);
		ck_assert_int_eq(peer_answer(&waiter), 0);
		peer_stop(&waiter);
	}
	filelock_close(lock);
}
END_TEST

START_TEST(test_death_of_the_holder_wakes_a_waiter)
{
	struct peer holder, waiter;

	peer_start_holding(&holder, test_path("lock"), _i ? SHARED : EXCLUSIVE);
	start_waiting(&waiter, test_path("lock"), EXCLUSIVE);
	peer_kill(&holder, SIGKILL);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	ck_assert_uint_eq(holders(), 1);
	peer_stop(&waiter);
}
END_TEST

/* --- life and death --- */

/* Its silence would show only after the duration, which is longer than any test. */
/* shows: rw-dead */
START_TEST(test_killed_holder_is_seen_dead_at_once)
{
	struct peer holder;

	for (int i = 0; i < 3; i++) {
		peer_start_holding(&holder, test_path("lock"), i == 1 ? SHARED : EXCLUSIVE);
		peer_kill(&holder, SIGKILL);
		/* a sanitizer's thread of the holder may live a little longer than its leader */
		await(attempt_once(test_path("lock"), i == 2 ? SHARED : EXCLUSIVE) == 0);
		ck_assert_uint_eq(holders(), 0);
	}
}
END_TEST

static void enter_and_die(void *arg)
{
	struct peer *peer = arg;

	peer_order_acquire(peer, EXCLUSIVE, 0);
	ck_assert_int_eq(peer_answer(peer), 0);
	peer_kill(peer, SIGKILL);
}

/* _i: between which parts of an attempt, which lists the log, and the records of those who left none behind. */
START_TEST(test_holder_that_enters_and_dies_in_the_midst_of_an_attempt_is_seen_dead)
{
	struct filelock_options options = rarely_polling();
	struct filelock *lock = test_open(test_path("lock"), &options);
	struct peer peer;

	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, test_path("lock"), &options), 0);
	ck_assert_int_eq(attempt_once(test_path("lock"), EXCLUSIVE), 0);
	fault_before(FAULT_getdents, (unsigned)_i, enter_and_die, &peer);
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, FILELOCK_NO_WAIT), 0);
	ck_assert_uint_eq(fault_hits(FAULT_getdents), 1);
	filelock_close(lock);
}
END_TEST

START_TEST(test_killed_writer_that_waited_keeps_nobody_out)
{
	struct peer reader, writer;

	peer_start_holding(&reader, test_path("lock"), SHARED);
	start_waiting(&writer, test_path("lock"), EXCLUSIVE);
	peer_kill(&writer, SIGKILL);
	await(attempt_once(test_path("lock"), SHARED) == 0);
	ck_assert_uint_eq(holders(), 1);
	peer_stop(&reader);
}
END_TEST

START_TEST(test_stopped_holder_of_this_kernel_holds)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;
	struct peer holder;

	options.duration_ms = 30;
	lock = test_open(test_path("lock"), &options);
	peer_start_holding(&holder, test_path("lock"), EXCLUSIVE);
	ck_assert_int_eq(kill(holder.pid, SIGSTOP), 0);
	await(test_process_state(holder.pid) == 'T');
	ck_assert_int_eq(filelock_acquire(lock, SHARED, 200), -ETIMEDOUT);
	ck_assert_int_eq(kill(holder.pid, SIGCONT), 0);
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(filelock_acquire(lock, SHARED, 0), 0);
	filelock_close(lock);
	peer_stop(&holder);
}
END_TEST

static int statfs_of_a_network(const char *path, struct statfs *ret)
{
	(void)path;
	*ret = (struct statfs){ .f_type = NFS_SUPER_MAGIC };
	return 0;
}

static int verify(void *arg)
{
	(void)arg;
	return filelock_verify(peer_lock());
}

static int release(void *arg)
{
	(void)arg;
	return filelock_release(peer_lock());
}

static int token_of_peer(void *arg)
{
	return filelock_token(peer_lock(), arg);
}

/* Where flock(2) proves nothing the record's silence is all that others have. Before the loser touches
   anything, it knows. */
/* shows: rw-lost */
START_TEST(test_holder_that_was_stopped_for_too_long_has_lost)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	uint64_t *before = test_shared(sizeof(*before)), after;
	struct filelock *lock;
	struct peer holder;
	char record[1024], again[1024];

	sys.statfs = statfs_of_a_network;
	options.duration_ms = 500;
	lock = test_open(test_path("lock"), &options);
	peer_start(&holder);
	ck_assert_int_eq(peer_open(&holder, test_path("lock"), &options), 0);
	ck_assert_int_eq(peer_acquire(&holder, _i ? SHARED : EXCLUSIVE, -1), 0);
	ck_assert_int_eq(peer_call(&holder, token_of_peer, before), 0);
	ck_assert_int_eq(kill(holder.pid, SIGSTOP), 0);
	await(test_process_state(holder.pid) == 'T');
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(filelock_token(lock, &after), 0);
	ck_assert_uint_gt(after, *before);
	read_record(record, sizeof(record));
	ck_assert_int_eq(kill(holder.pid, SIGCONT), 0);
	ck_assert_int_eq(peer_call(&holder, verify, NULL), FILELOCK_ELOST);
	ck_assert_int_eq(peer_call(&holder, verify, NULL), FILELOCK_ELOST);
	ck_assert_int_eq(peer_call(&holder, release, NULL), FILELOCK_ELOST);
	read_record(again, sizeof(again));
	ck_assert_str_eq(again, record);
	peer_stop(&holder);
	filelock_close(lock);
}
END_TEST

START_TEST(test_verify_renews_the_record)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	char record[1024], again[1024];

	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	read_record(record, sizeof(record));
	ck_assert_int_eq(filelock_verify(lock), 0);
	read_record(again, sizeof(again));
	ck_assert_uint_eq(strlen(record), strlen(again));
	ck_assert_mem_eq(record, again, strlen(record) - 33);
	ck_assert_str_ne(record, again);
	filelock_close(lock);
}
END_TEST

/* shows: rw-lost */
START_TEST(test_late_holder_has_lost_though_nobody_came)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	clock_fake(test_now());
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	clock_advance(89 * SECONDS);
	ck_assert_int_eq(filelock_verify(lock), 0);
	clock_advance(90 * SECONDS);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_release(lock), FILELOCK_ELOST);
	ck_assert(!filelock_is_held(lock));
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	filelock_close(lock);
}
END_TEST

static void stop_for_too_long(void *arg)
{
	(void)arg;
	clock_advance(90 * SECONDS);
}

/* Its record is written, but others may have counted it as dead before. */
START_TEST(test_holder_that_is_stopped_before_it_writes_is_late)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	clock_fake(test_now());
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	fault_watch();
	fault_before(FAULT_pwrite, 1, stop_for_too_long, NULL);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_uint_eq(fault_hits(FAULT_pwrite), 1);
	fault_clear();
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_LATE);
	ck_assert_int_eq(filelock_release(lock), FILELOCK_ELOST);
	filelock_close(lock);
}
END_TEST

START_TEST(test_heartbeat_that_fails_for_too_long_is_a_loss)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	clock_fake(test_now());
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	fault_set(FAULT_pwrite, 1, FAULT_FOR_GOOD, EIO);
	clock_advance(30 * SECONDS);
	ck_assert_int_eq(filelock_verify(lock), -EIO);
	clock_advance(29 * SECONDS);
	ck_assert_int_eq(filelock_verify(lock), -EIO);
	clock_advance(SECONDS);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	fault_clear();
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	filelock_close(lock);
}
END_TEST

/* --- the log goes --- */

static void remove_log(void)
{
	char command[1024];

	(void)snprintf(command, sizeof(command), "rm -r '%s'", test_path("lock.rw"));
	ck_assert_int_eq(system(command), 0);
}

/* shows: rw-lost */
START_TEST(test_holder_of_a_removed_log_has_lost)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	remove_log();
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(attempt_once(test_path("lock"), EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_release(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	filelock_close(lock);
}
END_TEST

/* As by a mount, or a chroot(2): its holder gets out all the same. */
START_TEST(test_log_that_is_hidden_at_the_release_names_nobody_afterwards)
{
	struct peer holder;

	for (enum filelock_mode mode = EXCLUSIVE; mode <= SHARED; mode++) {
		peer_start_holding(&holder, test_path("lock"), mode);
		ck_assert_int_eq(rename(test_path("lock.rw"), test_path("away")), 0);
		ck_assert_int_eq(peer_call(&holder, release, NULL), FILELOCK_ELOST);
		ck_assert_int_eq(rename(test_path("away"), test_path("lock.rw")), 0);
		ck_assert_int_eq(attempt_once(test_path("lock"), EXCLUSIVE), 0);
		ck_assert_uint_eq(holders(), 0);
		peer_stop(&holder);
	}
}
END_TEST

/* As where each link(2) fails so, under proot: nobody holds the lock, and no wait would end. */
START_TEST(test_folder_in_which_nothing_can_be_published_is_an_error)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	fault_set(FAULT_linkat, 1, FAULT_FOR_GOOD, ENOENT);
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, FILELOCK_WAIT_FOREVER), -ENOENT);
	fault_set(FAULT_linkat, 1, FAULT_FOR_GOOD, EIO); /* rclone */
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, FILELOCK_WAIT_FOREVER), -EIO);
	ck_assert_msg(strstr(filelock_last_error(lock), "hard links"), "%s", filelock_last_error(lock));
	fault_clear();
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_waiter_goes_over_to_a_new_log)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct peer waiter;

	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	peer_start(&waiter);
	ck_assert_int_eq(peer_open(&waiter, test_path("lock"), NULL), 0);
	peer_order_acquire(&waiter, EXCLUSIVE, -1);
	peer_await_notice(&waiter);
	ck_assert_int_eq(rename(test_path("lock.rw"), test_path("moved.rw")), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(attempt_once(test_path("lock"), SHARED), -ETIMEDOUT);
	peer_stop(&waiter);
	filelock_close(lock);
}
END_TEST

START_TEST(test_record_that_was_removed_is_a_loss_for_a_holder)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	char command[1024];

	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	(void)snprintf(command, sizeof(command), "rm '%s'/*", test_path("lock.rw/holders"));
	ck_assert_int_eq(system(command), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	filelock_close(lock);
}
END_TEST

START_TEST(test_break_leaves_everybody_out)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct peer holder;

	ck_assert_int_eq(filelock_break(lock), FILELOCK_ENOHOLDER);
	peer_start_holding(&holder, test_path("lock"), SHARED);
	ck_assert_int_eq(filelock_break(lock), 0);
	ck_assert_int_eq(filelock_break(lock), FILELOCK_ENOHOLDER);
	ck_assert_uint_eq(holders(), 0);
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(peer_call(&holder, verify, NULL), FILELOCK_ELOST);
	ck_assert_int_eq(peer_call(&holder, release, NULL), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_verify(lock), 0);
	peer_stop(&holder);
	filelock_close(lock);
}
END_TEST

/* --- what is refused --- */

struct told {
	unsigned readers, writers, waiting, dead;
	pid_t pid; /* of whoever was told last */
	char name[64];
};

static void take_claim(const struct filelock_claim *claim, void *arg)
{
	struct told *told = arg;

	told->readers += claim->owner.mode == SHARED;
	told->writers += claim->owner.mode == EXCLUSIVE;
	told->waiting += !claim->held;
	told->dead += claim->dead;
	told->pid = claim->owner.pid;
	(void)snprintf(told->name, sizeof(told->name), "%s", claim->name);
}

static struct told list_claims(struct filelock *lock)
{
	struct told told = { 0 };

	ck_assert_int_eq(filelock_claims(lock, take_claim, &told), 0);
	return told;
}

START_TEST(test_claims_are_the_readers_and_the_writer)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct peer reader, writer;
	struct told told = list_claims(lock);

	ck_assert_uint_eq(told.readers + told.writers, 0);
	peer_start_holding(&reader, test_path("lock"), SHARED);
	told = list_claims(lock);
	ck_assert_uint_eq(told.readers, 1);
	ck_assert_int_eq(told.pid, reader.pid);
	ck_assert_uint_eq(told.waiting + told.dead + told.writers, 0);
	start_waiting(&writer, test_path("lock"), EXCLUSIVE);
	told = list_claims(lock);
	ck_assert_uint_eq(told.readers, 1);
	ck_assert_uint_eq(told.writers, 1);
	ck_assert_uint_eq(told.waiting, 1);
	ck_assert_int_eq(peer_release(&reader), 0);
	ck_assert_int_eq(peer_answer(&writer), 0);
	told = list_claims(lock);
	ck_assert_uint_eq(told.waiting + told.readers + told.dead, 0);
	ck_assert_int_eq(told.pid, writer.pid);
	peer_kill(&writer, SIGKILL);
	await(list_claims(lock).dead == 1); /* when its last thread is gone */
	peer_stop(&reader);
	filelock_close(lock);
}
END_TEST

START_TEST(test_broken_claim_lets_the_next_one_in_and_is_a_loss)
{
	struct filelock *holder = test_open(test_path("lock"), NULL);
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct told told;

	ck_assert_int_eq(filelock_break_claim(lock, "../gen/HEAD"), -EINVAL);
	ck_assert_int_eq(filelock_break_claim(lock, "00112233445566778899aabbccddeeff"), -ENOENT);
	ck_assert_int_eq(filelock_acquire(holder, EXCLUSIVE, 0), 0);
	told = list_claims(lock);
	ck_assert_int_eq(filelock_break_claim(lock, "00112233445566778899aabbccddeeff"), -ENOENT);
	ck_assert_uint_eq(list_claims(lock).writers, 1);
	ck_assert_int_eq(filelock_break_claim(lock, told.name), 0);
	ck_assert_int_eq(filelock_break_claim(lock, told.name), -ENOENT);
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_verify(holder), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_loss(holder), FILELOCK_LOSS_EVICTED);
	ck_assert_int_eq(filelock_release(holder), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_verify(lock), 0);
	filelock_close(lock);
	filelock_close(holder);
}
END_TEST

START_TEST(test_odd_things_in_the_way_are_errors)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	test_write_file(test_path("lock.rw"), "");
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), -ENOTDIR);
	ck_assert_int_eq(unlink(test_path("lock.rw")), 0);
	ck_assert_int_eq(mkdir(test_path("elsewhere"), 0700), 0);
	ck_assert_int_eq(symlink("elsewhere", test_path("lock.rw")), 0);
	ck_assert_int_lt(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(unlink(test_path("lock.rw")), 0);
	ck_assert_int_eq(mkdir(test_path("lock.rw"), 0700), 0);
	ck_assert_int_eq(symlink("../elsewhere", test_path("lock.rw/gen")), 0);
	ck_assert_int_lt(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(count_files("elsewhere", '\0'), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_folder_of_another_user_is_refused)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	if (geteuid() != 0) {
		test_skip("it takes root to make one");
		filelock_close(lock);
		return;
	}
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(chown(test_path("lock.rw/gen"), 65534, 65534), 0);
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), -EACCES);
	filelock_close(lock);
}
END_TEST

/* shows: rw-closed */
START_TEST(test_protocol_error_names_the_file)
{
	static const char name[] = "lock.rw/gen/00000000000000000009";
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(attempt_once(test_path("lock"), EXCLUSIVE), 0);
	test_write_file(test_path(name), "nonsense\n");
	ck_assert_int_eq(filelock_acquire(lock, SHARED, 0), FILELOCK_EPROTOCOL);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), name));
	ck_assert_int_eq(unlink(test_path(name)), 0);
	ck_assert_uint_eq(holders(), 0);
	ck_assert_int_eq(filelock_acquire(lock, SHARED, 0), 0);
	filelock_close(lock);
}
END_TEST

/* shows: rw-closed */
START_TEST(test_lock_of_an_older_release_is_refused)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	test_write_file(test_path(_i ? "lock.write" : "lock.state"), "");
	ck_assert_int_eq(filelock_acquire(lock, SHARED, 0), FILELOCK_EPROTOCOL);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), _i ? "lock.write" : "lock.state"));
	filelock_close(lock);
}
END_TEST

enum exit_way { EXITS, KEEPS, EXITS_IN_A_CHILD };

static int hold_and_exit(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	const enum exit_way *way = arg;
	static struct filelock *lock;
	int status;
	pid_t pid;

	options.keep_on_exit = *way == KEEPS;
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(lock, SHARED, 0), 0);
	if (*way != EXITS_IN_A_CHILD)
		exit(0);
	pid = fork();
	if (pid == 0)
		exit(0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	_exit(status == 0 ? 0 : 1);
}

/* shows: exit-removes-marker */
START_TEST(test_exit_leaves_the_log_unless_told_not_to)
{
	enum exit_way way = EXITS;
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(test_in_child(hold_and_exit, &way), 0);
	ck_assert_uint_eq(holders(), 0);
	ck_assert_int_eq(filelock_break(lock), FILELOCK_ENOHOLDER); /* nobody is named */
	way = KEEPS;
	ck_assert_int_eq(test_in_child(hold_and_exit, &way), 0);
	ck_assert_uint_eq(holders(), 1);
	ck_assert_int_eq(filelock_break(lock), 0);
	way = EXITS_IN_A_CHILD;
	ck_assert_int_eq(test_in_child(hold_and_exit, &way), 0);
	ck_assert_uint_eq(holders(), 1);
	filelock_close(lock);
}
END_TEST

START_TEST(test_options_that_mean_nothing_are_refused)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	options.unlink_on_release = true;
	ck_assert_int_eq(test_try_open(test_path("lock"), &options, &lock), -EINVAL);
	options.unlink_on_release = false;
	options.file_mode = 0644;
	ck_assert_int_eq(test_try_open(test_path("lock"), &options, &lock), -EINVAL);
	options.file_mode = 0;
	options.duration_ms = 10;
	options.heartbeat_ms = 10;
	ck_assert_int_eq(test_try_open(test_path("lock"), &options, &lock), -EINVAL);
}
END_TEST

/* --- faults --- */

START_TEST(test_release_that_cannot_be_written_leaves_the_lock_held)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	fault_set(FAULT_fsync, 1, FAULT_ONCE, ENOSPC);
	ck_assert_int_eq(filelock_release(lock), -ENOSPC);
	fault_clear();
	ck_assert(filelock_is_held(lock));
	ck_assert_int_eq(attempt_once(test_path("lock"), SHARED), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(attempt_once(test_path("lock"), SHARED), 0);
	filelock_close(lock);
}
END_TEST

/* One call after the commit of the release has landed, or before: whichever it is, it is no loss. */
START_TEST(test_release_that_failed_is_repeated_without_a_loss)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	unsigned failures = 0, nth = 0;
	int r;

	do {
		ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
		fault_set(FAULT_openat, ++nth, FAULT_FOR_GOOD, EIO);
		r = filelock_release(lock);
		fault_clear();
		if (r < 0) {
			failures++;
			ck_assert_int_eq(r, -EIO);
			ck_assert_int_eq(filelock_release(lock), 0);
			ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_NONE);
		}
	} while (r < 0);
	ck_assert_uint_ge(failures, 4); /* HEAD, two generations, the commit */
	filelock_close(lock);
}
END_TEST

/* It has committed nothing: others have left it out. */
START_TEST(test_loss_after_a_release_that_could_not_begin_is_told)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct filelock *other = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	fault_set(FAULT_openat, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(filelock_release(lock), -EIO);
	fault_clear();
	ck_assert_int_eq(filelock_break(other), 0);
	ck_assert_int_eq(filelock_release(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_EVICTED);
	filelock_close(other);
	filelock_close(lock);
}
END_TEST

/* It could not be released at all: whoever comes sees it dead. */
START_TEST(test_handle_that_goes_with_its_hold_is_a_dead_member)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	fault_set(FAULT_fsync, 1, FAULT_FOR_GOOD, ENOSPC);
	filelock_close(lock);
	fault_clear();
	ck_assert_int_eq(attempt_once(test_path("lock"), EXCLUSIVE), 0);
	ck_assert_uint_eq(holders(), 0);
}
END_TEST

/* shows: rw-nothing-left */
START_TEST(test_failed_acquisition_leaves_nothing)
{
	static const enum fault_call calls[] = { FAULT_openat, FAULT_pwrite, FAULT_fsync,
		                                 FAULT_linkat, FAULT_calloc, FAULT_getrandom };
	struct filelock *lock = test_open(test_path("lock"), NULL);
	unsigned before;

	ck_assert_int_eq(attempt_once(test_path("lock"), EXCLUSIVE), 0);
	before = test_descriptors();
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		for (unsigned nth = 1; nth <= 4; nth++) {
			fault_set(calls[i], nth, FAULT_ONCE, EIO);
			(void)filelock_acquire(lock, EXCLUSIVE, 0);
			fault_clear();
			if (filelock_is_held(lock))
				ck_assert_int_eq(filelock_release(lock), 0);
			ck_assert_uint_eq(test_descriptors(), before);
			ck_assert_int_eq(attempt_once(test_path("lock"), EXCLUSIVE), 0);
		}
	filelock_close(lock);
}
END_TEST

/* --- forks --- */

static int use_in_child(void *arg)
{
	struct filelock *lock = arg;
	uint64_t token;

	ck_assert_int_eq(filelock_release(lock), FILELOCK_EFORKED);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_EFORKED);
	ck_assert_int_eq(filelock_token(lock, &token), FILELOCK_EFORKED);
	filelock_close(lock);
	ck_assert_int_eq(attempt_once(test_path("lock"), SHARED), -ETIMEDOUT);
	return 0;
}

START_TEST(test_child_of_a_holder_leaves_its_lock)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(test_in_child(use_in_child, lock), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(attempt_once(test_path("lock"), SHARED), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
}
END_TEST

/* In a process that dies: takes the lock, and leaves a child behind. */
static int leave_a_child(void *arg)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	pid_t pid;

	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	pid = fork();
	while (pid == 0)
		pause();
	*(pid_t *)arg = pid;
	return 0;
}

START_TEST(test_living_child_does_not_keep_a_dead_parents_lock)
{
	pid_t *child = test_shared(sizeof(*child));
	struct peer parent;

	(void)test_folder();
	peer_start(&parent);
	ck_assert_int_eq(peer_call(&parent, leave_a_child, child), 0);
	ck_assert_int_eq(attempt_once(test_path("lock"), EXCLUSIVE), -ETIMEDOUT);
	peer_kill(&parent, SIGKILL);
	await(attempt_once(test_path("lock"), EXCLUSIVE) == 0);
	ck_assert_int_eq(kill(*child, SIGKILL), 0);
}
END_TEST

/* More than stay in the log, where somebody may get in. */
static int make_generations(void *arg)
{
	(void)arg;
	for (int i = 0; i < 40; i++)
		(void)attempt_once(test_path("lock"), EXCLUSIVE);
	return 0;
}

static int acquire(struct filelock *lock)
{
	return filelock_acquire(lock, EXCLUSIVE, FILELOCK_WAIT_FOREVER);
}

static void pass_generations(void *arg)
{
	ck_assert_int_eq(peer_call(arg, make_generations, NULL), 0);
}

/* Also where our own commit, from which the others went on, is removed by then. */
static void overtake(enum fault_call call, int (*act)(struct filelock *lock), bool is_release)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	uint64_t token, last = 0;
	struct peer peer;

	peer_start(&peer);
	pass_generations(&peer);
	for (unsigned nth = 1, hits = 1; hits > 0; nth++) {
		if (is_release)
			ck_assert_int_eq(acquire(lock), 0);
		fault_before(call, nth, pass_generations, &peer);
		ck_assert_msg(act(lock) == 0, "%s, call %u: %s", fault_name(call), nth,
		              filelock_last_error(lock));
		hits = fault_hits(call);
		ck_assert(hits > 0 || nth > 1);
		fault_clear();
		if (is_release)
			continue;
		ck_assert_int_eq(filelock_verify(lock), 0);
		ck_assert_int_eq(filelock_token(lock, &token), 0);
		ck_assert_uint_gt(token, last);
		last = token;
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	filelock_close(lock);
	peer_stop(&peer);
}

static const enum fault_call overtaken[] = { FAULT_fstatat, FAULT_linkat, FAULT_openat, FAULT_unlinkat };
enum { OVERTAKEN = sizeof(overtaken) / sizeof(*overtaken) };

/* shows: rw-lost */
START_TEST(test_release_that_others_overtake_at_any_call_is_no_loss)
{
	overtake(overtaken[_i], filelock_release, true);
}
END_TEST

START_TEST(test_acquisition_that_others_overtake_at_any_call_holds)
{
	overtake(overtaken[_i], acquire, false);
}
END_TEST

/* Of a network: what it read was removed, or another machine has replaced it. */
START_TEST(test_stale_handle_is_contention_wherever_it_is_met)
{
	static const enum fault_call calls[] = { FAULT_openat, FAULT_fstat,  FAULT_fstatat, FAULT_pread,
		                                 FAULT_read,   FAULT_getdents };
	enum filelock_mode mode = _i ? EXCLUSIVE : SHARED;
	struct filelock *lock = test_open(test_path("lock"), NULL);
	unsigned points = 0;
	int r;

	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		for (unsigned nth = 1, hits = 1; hits > 0; nth++) {
			fault_set(calls[i], nth, FAULT_ONCE, ESTALE);
			r = filelock_acquire(lock, mode, FILELOCK_WAIT_FOREVER);
			hits = fault_hits(calls[i]);
			fault_clear();
			ck_assert_msg(r == 0, "%s, call %u: %d", fault_name(calls[i]), nth, r);
			ck_assert_int_eq(filelock_release(lock), 0);
			points += hits;
		}
	ck_assert_uint_ge(points, 10);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	Suite *suite;
	TCase *modes = tcase_create("modes");

	(void)setenv("FILELOCK_TEST_KIND", "soft-readwrite", 1);
	suite = SUITE("softrw", test_path_too_long_for_its_log_is_refused,
	              test_readers_overlap_and_a_writer_excludes,
	              test_waiting_writer_keeps_new_readers_out,
	              test_writer_that_gives_up_lets_readers_in_again,
	              test_nothing_but_the_log_stays, test_token_grows_from_hold_to_hold,
	              test_holder_is_named, test_release_wakes_whom_it_lets_in,
	              test_killed_holder_is_seen_dead_at_once,
	              test_killed_writer_that_waited_keeps_nobody_out,
	              test_stopped_holder_of_this_kernel_holds, test_verify_renews_the_record,
	              test_late_holder_has_lost_though_nobody_came,
	              test_holder_that_is_stopped_before_it_writes_is_late,
	              test_heartbeat_that_fails_for_too_long_is_a_loss,
	              test_holder_of_a_removed_log_has_lost, test_waiter_goes_over_to_a_new_log,
	              test_record_that_was_removed_is_a_loss_for_a_holder,
	              test_log_that_is_hidden_at_the_release_names_nobody_afterwards,
	              test_folder_in_which_nothing_can_be_published_is_an_error,
	              test_break_leaves_everybody_out,
	              test_claims_are_the_readers_and_the_writer,
	              test_broken_claim_lets_the_next_one_in_and_is_a_loss,
	              test_odd_things_in_the_way_are_errors,
	              test_folder_of_another_user_is_refused, test_protocol_error_names_the_file,
	              test_exit_leaves_the_log_unless_told_not_to,
	              test_options_that_mean_nothing_are_refused,
	              test_release_that_cannot_be_written_leaves_the_lock_held,
	              test_release_that_failed_is_repeated_without_a_loss,
	              test_loss_after_a_release_that_could_not_begin_is_told,
	              test_handle_that_goes_with_its_hold_is_a_dead_member,
	              test_failed_acquisition_leaves_nothing,
	              test_child_of_a_holder_leaves_its_lock,
	              test_living_child_does_not_keep_a_dead_parents_lock);
	tcase_add_loop_test(modes, test_death_of_the_holder_wakes_a_waiter, 0, 2);
	tcase_add_loop_test(modes, test_release_that_others_overtake_at_any_call_is_no_loss, 0, OVERTAKEN);
	tcase_add_loop_test(modes, test_acquisition_that_others_overtake_at_any_call_holds, 0, OVERTAKEN);
	tcase_add_loop_test(modes, test_stale_handle_is_contention_wherever_it_is_met, 0, 2);
	tcase_add_loop_test(modes, test_holder_that_enters_and_dies_in_the_midst_of_an_attempt_is_seen_dead,
	                    1, 5);
	tcase_add_loop_test(modes, test_holder_that_was_stopped_for_too_long_has_lost, 0, 2);
	tcase_add_loop_test(modes, test_lock_of_an_older_release_is_refused, 0, 2);
	suite_add_tcase(suite, modes);
	return support_main(suite);
}
