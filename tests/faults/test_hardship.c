/* A system that has used something up: real limits, not made-up errors. */
#include "hardship.h"

static const char *const limits[] = { "max_inotify_instances", "max_inotify_watches" };
static struct peer holder;

static bool let_go(void *arg)
{
	bool *held = arg;

	if (*held)
		ck_assert_int_eq(peer_release(&holder), 0);
	*held = false;
	return false;
}

static int wait_without_inotify(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;
	bool held = true;
	unsigned watches;
	int r;

	if (!hardship_no_inotify(arg))
		return HARDSHIP_MISSING;
	options.poll_interval_ms = 5;
	options.should_cancel = let_go;
	options.arg = &held;
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	lock = test_open(test_path("lock"), &options);
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, 30000);
	watches = test_watches();
	filelock_close(lock);
	peer_stop(&holder);
	return r == 0 && watches == 0 ? 0 : 1;
}

/* shows: poll-stays */
START_TEST(test_inotify_used_up_means_polling)
{
	hardship_run(wait_without_inotify, (void *)limits[_i]);
}
END_TEST

static int acquire_on_small_disk(void *arg)
{
	struct filelock *lock;
	int r, again;

	(void)arg;
	if (!hardship_small_disk())
		return HARDSHIP_MISSING;
	hardship_fill_disk();
	lock = test_open(test_path("lock"), NULL);
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	ck_assert_int_eq(unlink(test_path("one")), 0);
	again = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	filelock_close(lock);
	return r == -ENOSPC && again == 0 ? 0 : 1;
}

/* shows: full-or-forbidden */
START_TEST(test_full_disk_is_an_error_at_once_and_passes)
{
	hardship_run(acquire_on_small_disk, NULL);
}
END_TEST

struct taking {
	enum loss loss;
	bool taken;
};

static bool take_folder(void *arg)
{
	struct taking *taking = arg;

	if (!taking->taken)
		hardship_take_folder(taking->loss);
	taking->taken = true;
	return false;
}

static int lose_folder(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct taking taking = { *(enum loss *)arg, false };
	struct filelock *lock;
	int r;

	if (!hardship_make_folder(taking.loss))
		return HARDSHIP_MISSING;
	options.poll_interval_ms = 5;
	options.should_cancel = take_folder;
	options.arg = &taking;
	peer_start_holding(&holder, test_path("folder/lock"), FILELOCK_EXCLUSIVE);
	lock = test_open(test_path("folder/lock"), &options);
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, 30000);
	if (r == 0)
		r = filelock_verify(lock);
	filelock_close(lock);
	peer_stop(&holder);
	return r == 0 ? 0 : 1;
}

/* The path's lock is the new folder's. */
/* shows: folder-lost */
START_TEST(test_folder_lost_under_a_waiter_is_made_anew)
{
	enum loss loss = (enum loss)_i;

	hardship_run(lose_folder, &loss);
}
END_TEST

/* shows: eintr */
START_TEST(test_storm_of_signals_surfaces_nowhere)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	hardship_storm(true);
	for (unsigned i = 0; i < test_rounds(300); i++) {
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	hardship_storm(false);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("hardship", test_full_disk_is_an_error_at_once_and_passes,
	                     test_storm_of_signals_surfaces_nowhere);
	TCase *each = tcase_create("losses");

	tcase_add_loop_test(each, test_inotify_used_up_means_polling, 0, 2);
	tcase_add_loop_test(each, test_folder_lost_under_a_waiter_is_made_anew, 0, LOSSES);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
