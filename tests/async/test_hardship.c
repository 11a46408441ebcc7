/* A loop on a system that has used something up: real limits, not made-up errors. */
#include "hardship.h"
#include "loop.h"

static const char *const limits[] = { "max_inotify_instances", "max_inotify_watches" };

static int wait_without_inotify(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct asked asked = { 0 };
	struct peer holder;
	struct loop loop;
	unsigned watches;

	if (!hardship_no_inotify(arg))
		return HARDSHIP_MISSING;
	options.poll_interval_ms = 5;
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	loop = loop_new();
	asked.lock = test_open(test_path("lock"), &options);
	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	loop_for(&loop, 20);
	watches = test_watches();
	ck_assert_int_eq(peer_release(&holder), 0);
	(void)loop_answer(&loop, &asked);
	filelock_close(asked.lock);
	loop_free(&loop);
	peer_stop(&holder);
	return asked.result == 0 && watches == 0 ? 0 : 1;
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
	struct loop loop;
	int r, again;

	(void)arg;
	if (!hardship_small_disk())
		return HARDSHIP_MISSING;
	hardship_fill_disk();
	loop = loop_new();
	lock = test_open(test_path("lock"), NULL);
	r = loop_acquire(&loop, lock, FILELOCK_EXCLUSIVE, -1);
	ck_assert_int_eq(unlink(test_path("one")), 0);
	again = loop_acquire(&loop, lock, FILELOCK_EXCLUSIVE, -1);
	filelock_close(lock);
	loop_free(&loop);
	return r == -ENOSPC && again == 0 ? 0 : 1;
}

/* shows: full-or-forbidden */
START_TEST(test_full_disk_is_an_error_at_once_and_passes)
{
	hardship_run(acquire_on_small_disk, NULL);
}
END_TEST

static int lose_folder(void *arg)
{
	enum loss loss = *(enum loss *)arg;
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct asked asked = { 0 };
	struct peer holder;
	struct loop loop;
	int r;

	if (!hardship_make_folder(loss))
		return HARDSHIP_MISSING;
	options.poll_interval_ms = 5;
	peer_start_holding(&holder, test_path("folder/lock"), FILELOCK_EXCLUSIVE);
	loop = loop_new();
	asked.lock = test_open(test_path("folder/lock"), &options);
	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	loop_for(&loop, 5);
	hardship_take_folder(loss);
	r = loop_answer(&loop, &asked);
	if (r == 0)
		r = filelock_verify(asked.lock);
	filelock_close(asked.lock);
	loop_free(&loop);
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
	struct loop loop = loop_new();
	struct filelock *lock = open_patient("lock");

	hardship_storm(true);
	for (unsigned i = 0; i < test_rounds(300); i++) {
		ck_assert_int_eq(loop_acquire(&loop, lock, FILELOCK_EXCLUSIVE, -1), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	hardship_storm(false);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

/* shows: eintr */
START_TEST(test_deadline_is_kept_in_a_storm_of_signals)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("lock", FILELOCK_EXCLUSIVE);
	struct filelock *lock = open_patient("lock");
	int64_t begin;

	hardship_storm(true);
	begin = test_now();
	ck_assert_int_eq(loop_acquire(&loop, lock, FILELOCK_EXCLUSIVE, 50), -ETIMEDOUT);
	ck_assert_int_ge(test_now() - begin, 50 * MILLISECONDS);
	hardship_storm(false);
	filelock_close(lock);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("async hardship", test_full_disk_is_an_error_at_once_and_passes,
	                     test_storm_of_signals_surfaces_nowhere,
	                     test_deadline_is_kept_in_a_storm_of_signals);
	TCase *each = tcase_create("losses");

	tcase_add_loop_test(each, test_inotify_used_up_means_polling, 0, 2);
	tcase_add_loop_test(each, test_folder_lost_under_a_waiter_is_made_anew, 0, LOSSES);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
