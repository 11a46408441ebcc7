#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

/* The orders of a peer lie in shared memory; the pipes carry only "go" and answers. */
struct order {
	int (*run)(void *arg);
	void *arg;
	/* of the peer's own handle */
	enum filelock_mode mode;
	int timeout_ms;
	bool has_options;
	struct filelock_options options;
	char path[512];
};

struct message {
	int is_notice;
	int answer;
};

/* In the peer. */
static int answers = -1;
static struct filelock *lock;
static const struct order *current;
static bool noticed; /* that the acquisition under way waits */

static void write_whole(int fd, const void *bytes, size_t size)
{
	const char *p = bytes;

	while (size > 0) {
		ssize_t n = write(fd, p, size);

		if (n < 0 && errno == EINTR)
			continue;
		ck_assert_msg(n > 0, "write to the other process: %s", strerror(errno));
		p += n;
		size -= (size_t)n;
	}
}

static bool read_whole(int fd, void *bytes, size_t size)
{
	char *p = bytes;

	while (size > 0) {
		ssize_t n = read(fd, p, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		size -= (size_t)n;
	}
	return true;
}

static void die_with_parent(pid_t parent)
{
	pid_t now;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	now = getppid();
	if (now != parent && now != 0) /* 0: it lives in another PID namespace */
		_exit(1);
}

static void obey(int orders)
{
	char go;

	while (read_whole(orders, &go, sizeof(go))) {
		struct message message = { false, current->run(current->arg) };

		write_whole(answers, &message, sizeof(message));
	}
	_exit(0);
}

void peer_start(struct peer *peer)
{
	int orders[2], replies[2];
	pid_t parent = getpid();

	ck_assert_int_eq(pipe2(orders, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(replies, O_CLOEXEC), 0);
	peer->order = test_shared(sizeof(*peer->order));
	peer->pid = fork();
	ck_assert_int_ge(peer->pid, 0);
	if (peer->pid == 0) {
		die_with_parent(parent);
		close(orders[1]);
		close(replies[0]);
		answers = replies[1];
		current = peer->order;
		lock = NULL;
		obey(orders[0]);
	}
	close(orders[0]);
	close(replies[1]);
	peer->orders = orders[1];
	peer->answers = replies[0];
	peer->answered = false;
}

static void send_order(struct peer *peer, const struct order *order)
{
	*peer->order = *order;
	write_whole(peer->orders, "", 1);
}

void peer_order(struct peer *peer, int (*run)(void *arg), void *arg)
{
	send_order(peer, &(struct order){ .run = run, .arg = arg });
}

int peer_answer(struct peer *peer)
{
	struct message message = { true, peer->answer };

	if (peer->answered) {
		peer->answered = false;
		return peer->answer;
	}
	while (message.is_notice)
		ck_assert_msg(read_whole(peer->answers, &message, sizeof(message)),
		              "the peer died");
	return message.answer;
}

int peer_call(struct peer *peer, int (*run)(void *arg), void *arg)
{
	peer_order(peer, run, arg);
	return peer_answer(peer);
}

void peer_notify(void)
{
	struct message message = { true, 0 };

	write_whole(answers, &message, sizeof(message));
}

void peer_await_notice(struct peer *peer)
{
	struct message message;

	ck_assert_msg(read_whole(peer->answers, &message, sizeof(message)), "the peer died");
	ck_assert_msg(message.is_notice, "the peer answered %d at once: %s", message.answer,
	              filelock_strerror(message.answer));
}

bool peer_answers_within(struct peer *peer, int timeout_ms)
{
	struct pollfd fd = { peer->answers, POLLIN, 0 };
	int64_t end = test_now() + timeout_ms * MILLISECONDS;
	struct message message;

	while (!peer->answered) {
		int64_t left = (end - test_now()) / MILLISECONDS;

		if (poll(&fd, 1, left > 0 ? (int)left : 0) <= 0)
			return false;
		ck_assert_msg(read_whole(peer->answers, &message, sizeof(message)),
		              "the peer died");
		peer->answered = !message.is_notice;
		peer->answer = message.answer;
	}
	return true;
}

/* By should_cancel and not by on_wait, which would look for the holder first: that takes long
   while other tests hold thousands of locks. */
static bool give_notice(void *arg)
{
	(void)arg;
	if (!noticed)
		peer_notify();
	noticed = true;
	return false;
}

static int run_open(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	(void)arg;
	if (current->has_options)
		options = current->options;
	if (!options.should_cancel)
		options.should_cancel = give_notice;
	return test_try_open(current->path, &options, &lock);
}

static int run_acquire(void *arg)
{
	(void)arg;
	noticed = false;
	return filelock_acquire(lock, current->mode, current->timeout_ms);
}

static int run_release(void *arg)
{
	(void)arg;
	return filelock_release(lock);
}

static int run_close(void *arg)
{
	(void)arg;
	filelock_close(lock);
	lock = NULL;
	return 0;
}

struct filelock *peer_lock(void)
{
	return lock;
}

int peer_open(struct peer *peer, const char *path, const struct filelock_options *options)
{
	struct order order = { .run = run_open, .has_options = options != NULL };

	ck_assert_uint_lt(strlen(path), sizeof(order.path));
	strcpy(order.path, path);
	if (options)
		order.options = *options;
	send_order(peer, &order);
	return peer_answer(peer);
}

void peer_order_acquire(struct peer *peer, enum filelock_mode mode, int timeout_ms)
{
	send_order(peer, &(struct order){ .run = run_acquire, .mode = mode,
	                                  .timeout_ms = timeout_ms });
}

int peer_acquire(struct peer *peer, enum filelock_mode mode, int timeout_ms)
{
	peer_order_acquire(peer, mode, timeout_ms);
	return peer_answer(peer);
}

int peer_release(struct peer *peer)
{
	return peer_call(peer, run_release, NULL);
}

int peer_close(struct peer *peer)
{
	return peer_call(peer, run_close, NULL);
}

void peer_start_holding(struct peer *peer, const char *path, enum filelock_mode mode)
{
	peer_start(peer);
	ck_assert_int_eq(peer_open(peer, path, NULL), 0);
	ck_assert_int_eq(peer_acquire(peer, mode, FILELOCK_WAIT_FOREVER), 0);
}

static int run_exit(void *arg)
{
	(void)arg;
	_exit(0);
}

static int finish(struct peer *peer)
{
	close(peer->orders);
	close(peer->answers);
	(void)munmap(peer->order, sizeof(*peer->order));
	return test_reap(peer->pid);
}

void peer_stop(struct peer *peer)
{
	/* closing the pipe of orders would not do: a peer forked later has it open too */
	peer_order(peer, run_exit, NULL);
	ck_assert_int_eq(finish(peer), 0);
}

void peer_kill(struct peer *peer, int signal)
{
	ck_assert_int_eq(kill(peer->pid, signal), 0);
	ck_assert_int_eq(finish(peer), 128 + signal);
}

pid_t test_fork(int (*run)(void *arg), void *arg)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		die_with_parent(parent);
		_exit(run(arg));
	}
	return pid;
}

int test_reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		ck_assert_int_eq(errno, EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int test_in_child(int (*run)(void *arg), void *arg)
{
	return test_reap(test_fork(run, arg));
}
