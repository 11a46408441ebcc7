#include "actors.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define MILLISECOND INT64_C(1000000)

static struct identity crowded;

static struct filelock *open_lock(const struct library *lib, const struct actor *actor)
{
	struct filelock_options options = patient();
	struct filelock *lock = NULL;
	int r;

	options.unlink_on_release = actor->unlink_on_release;
	options.keep_open = actor->keep_open;
	if (actor->poll_interval_ms)
		options.poll_interval_ms = actor->poll_interval_ms;
	if (actor->in_crowd)
		lib->note_silence(crowded, sim_now());
	r = lib->open(LOCK_PATH, actor->kind, &options, &lock);
	CLAIM_EQUAL(r, 0);
	return lock;
}

/* Whether it got the lock in time; if not, it got exactly that error, and not too early. */
static bool acquire(const struct library *lib, struct filelock *lock, const struct actor *actor)
{
	int64_t began = sim_now();
	int timeout = actor->timeout_ms ? actor->timeout_ms : FILELOCK_WAIT_FOREVER;
	int r;

	ask();
	r = lib->acquire(lock, actor->mode, timeout);
	if (timeout < 0 || r == 0) {
		CLAIM_EQUAL(r, 0);
		return true;
	}
	give_up();
	CLAIM_EQUAL(r, -ETIMEDOUT);
	CLAIM(sim_now() - began >= timeout * MILLISECOND, (long)(sim_now() - began));
	return false;
}

static void stay_inside(unsigned ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * MILLISECOND };

	pause_here("inside");
	if (ms)
		(void)sim_calls.nanosleep(&time, NULL);
}

static void act_once(const struct library *lib, struct filelock *lock, const struct actor *actor)
{
	if (!acquire(lib, lock, actor))
		return;
	enter(actor->mode);
	stay_inside(actor->holds_ms);
	leave();
	if (!actor->close_holding && !actor->exits)
		CLAIM_EQUAL(lib->release(lock), 0);
}

static void leave_by_exit(const struct library *lib)
{
	lib->exit();
	sim_kill(sim_current());
	pause_here("gone");
}

void act(const struct library *lib, const struct actor *actor)
{
	struct filelock *lock = open_lock(lib, actor);
	struct actor again = *actor;

	if (actor->then_exclusive) {
		again.mode = FILELOCK_EXCLUSIVE;
		again.timeout_ms = 0;
	}
	act_once(lib, lock, actor);
	if (actor->twice)
		act_once(lib, lock, &again);
	if (actor->exits)
		leave_by_exit(lib);
	else if (!actor->stays_open)
		lib->close(lock);
}

void remove_file(const struct library *lib, unsigned self)
{
	(void)lib;
	(void)self;
	(void)sim_calls.unlink(LOCK_PATH);
}

void rename_file(const struct library *lib, unsigned self)
{
	(void)lib;
	(void)self;
	(void)sim_rename(LOCK_PATH, SIM_FOLDER "/away");
}

void replace_file(const struct library *lib, unsigned self)
{
	(void)lib;
	(void)self;
	(void)sim_calls.mknod(SIM_FOLDER "/another", 0644, 0);
	(void)sim_rename(SIM_FOLDER "/another", LOCK_PATH);
}

void make_file(const char *path, const char *content)
{
	int fd = sim_calls.open(path, O_WRONLY | O_CREAT, 0666);

	(void)sim_calls.pwrite(fd, content, strlen(content), 0);
	(void)sim_calls.close(fd);
}

void make_lock_file(const char *content)
{
	make_file(LOCK_PATH, content);
}

void make_crowded_file(void)
{
	struct stat st;

	make_lock_file("");
	(void)sim_calls.lstat(LOCK_PATH, &st);
	crowded = (struct identity){ st.st_dev, st.st_ino };
}
