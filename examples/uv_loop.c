/*
 * uv_loop.c - waits for a lock in a libuv loop, ten seconds at most; other work goes on meanwhile.
 *
 *	cc uv_loop.c -o uv_loop $(pkg-config --cflags --libs filelock libuv)
 *	./uv_loop a.lock
 *
 * driver.h is all that it takes from the library: one uv_poll_t on the watcher's descriptor and one
 * uv_timer_t for the next step.
 */
#include <stdio.h>

#include <uv.h>

#include <filelock/driver.h>

#define MILLISECOND 1000000 /* ns */
#define TIMEOUT (INT64_C(10000) * MILLISECOND)

struct waiter {
	struct filelock *lock;
	struct filelock_driver driver;
	uv_timer_t timer;
	uv_poll_t readable;
	uv_timer_t other_work;
	int fd; /* that `readable` is on; -1: none yet */
	int result;
};

static void step(struct waiter *waiter);

static void on_timer(uv_timer_t *timer)
{
	step(timer->data);
}

/* Called while the watcher is dispatched: the step comes from the loop. */
static void on_woken(struct filelock *lock, void *arg)
{
	struct waiter *waiter = arg;

	(void)lock;
	(void)uv_timer_start(&waiter->timer, on_timer, 0, 0);
}

static void on_readable(uv_poll_t *handle, int status, int events)
{
	struct waiter *waiter = handle->data;

	(void)status;
	(void)events;
	filelock_watcher_dispatch(waiter->driver.watcher);
}

static void on_other_work(uv_timer_t *timer)
{
	(void)timer;
	puts("the loop goes on");
	(void)fflush(stdout);
}

static void end(struct waiter *waiter, int result)
{
	waiter->result = result;
	if (result < 0)
		fprintf(stderr, "%s\n", filelock_last_error(waiter->lock));
	else
		printf("%s is ours\n", filelock_path(waiter->lock));
	uv_close((uv_handle_t *)&waiter->timer, NULL);
	uv_close((uv_handle_t *)&waiter->other_work, NULL);
	if (waiter->fd >= 0)
		uv_close((uv_handle_t *)&waiter->readable, NULL);
	filelock_watcher_tidy(waiter->driver.watcher);
}

/* The descriptor comes with the first wait; native locks keep to that one. Without memory to listen
   to it, the polls find the release, later. */
static void listen_to_watcher(struct waiter *waiter)
{
	int fd = filelock_watcher_fd(waiter->driver.watcher);

	if (waiter->fd >= 0 || fd < 0)
		return;
	if (uv_poll_init(uv_default_loop(), &waiter->readable, fd) < 0)
		return;
	waiter->fd = fd;
	waiter->readable.data = waiter;
	(void)uv_poll_start(&waiter->readable, UV_READABLE, on_readable);
}

static void step(struct waiter *waiter)
{
	int64_t now = filelock_now();
	int64_t until = now;
	int r = filelock_step(waiter->lock, now, &until);

	if (r <= 0) {
		end(waiter, r);
		return;
	}
	listen_to_watcher(waiter);
	/* libuv counts from its cached time, and a step that comes early makes no attempt */
	uv_update_time(uv_default_loop());
	(void)uv_timer_start(&waiter->timer, on_timer,
	                     until > now ? (uint64_t)(until - now + MILLISECOND - 1) / MILLISECOND
	                                 : 0,
	                     0);
}

int main(int argc, char **argv)
{
	struct waiter waiter = { .driver = { .woken = on_woken }, .fd = -1, .result = -1 };
	int r;

	if (argc != 2) {
		fprintf(stderr, "usage: uv_loop PATH\n");
		return 2;
	}
	r = filelock_open(argv[1], FILELOCK_NATIVE, NULL, &waiter.lock);
	if (r == 0)
		r = filelock_watcher_new(&waiter.driver.watcher);
	if (r == 0)
		r = filelock_begin(waiter.lock, FILELOCK_EXCLUSIVE,
		                   filelock_deadline(filelock_now(), TIMEOUT), &waiter.driver,
		                   &waiter);
	if (r < 0) {
		fprintf(stderr, "%s\n", filelock_strerror(r));
		return 1;
	}
	(void)uv_timer_init(uv_default_loop(), &waiter.timer);
	(void)uv_timer_init(uv_default_loop(), &waiter.other_work);
	waiter.timer.data = &waiter;
	(void)uv_timer_start(&waiter.other_work, on_other_work, 0, 100);
	step(&waiter);
	(void)uv_run(uv_default_loop(), UV_RUN_DEFAULT);
	filelock_close(waiter.lock);
	filelock_watcher_free(waiter.driver.watcher);
	(void)uv_loop_close(uv_default_loop());
	return waiter.result < 0;
}
