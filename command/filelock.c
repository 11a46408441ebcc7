/*
 * filelock.c - runs a command while holding a lock, as flock(1) does, waiting in a libevent loop.
 *
 *	cc filelock.c -o filelock $(pkg-config --cflags --libs filelock_event libevent_core)
 *	./filelock -w 5000 /run/backup.lock rsync -a /home /backup
 *	./filelock --holder /run/backup.lock
 *
 * Exit status: that of the command (128 + N if signal N killed it); 1, or that of -E, if the lock did
 * not come free in time; 128 + N if signal N ended the wait; otherwise as flock(1): 64 usage, 66 the
 * lock file cannot be opened, 69 the command cannot be run, 71 the system is short of something,
 * 73 the lock file cannot be made. --holder: 0 if somebody holds the lock, 1 (or -E) if nobody
 * does, 69 if the system does not say.
 *
 * Three things here are easy to get wrong:
 *  - The command inherits the descriptor of the lock (unless -o), so that the lock is held for as
 *    long as the command runs, even if we are killed. For the same reason we end without
 *    releasing: what the command left running in the background keeps the lock, too. (Not a soft
 *    lock: its marker goes when we end, but stays if we are killed and the command lives.)
 *  - Signals are read from a signalfd, because they have to be blocked, not caught, while the
 *    command is started, so that none is lost; and because it says who sent them: a SIGINT of the
 *    terminal has reached the command already, and is not passed on a second time.
 *  - posix_spawn(3) says why a command could not be run, which exec(3) after fork(2) cannot.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

#include <event2/event.h>
#include <filelock/event.h>

#include "kinds.h"

struct run {
	/* what was asked for */
	const char *path;
	char **command;
	enum filelock_kind kind;
	enum filelock_mode mode;
	int wait_ms; /* FILELOCK_WAIT_FOREVER */
	int busy_status;
	bool close_lock;
	bool print_holder;

	struct event_base *base;
	struct evfilelock *ev;
	bool waiting; /* for the lock */
	struct filelock *lock;
	struct event *on_signal;
	int directory; /* -1, or the descriptor of a lock on a directory */
	int signals;   /* signalfd(2) */
	sigset_t old_mask;
	pid_t child; /* 0: not running */
	int status;  /* that we end with */
};

static const char usage_text[] =
        "usage: filelock [-s|-x] [-k KIND] [-w MS] [-n] [-E CODE] [-o] PATH [--] COMMAND [ARG...]\n"
        "       filelock [-k KIND] [-E CODE] --holder PATH\n"
        "\n"
        "Runs COMMAND while holding the lock at PATH, or prints who holds it.\n"
        "  -s, --shared                   a shared lock\n"
        "  -x, -e, --exclusive            an exclusive lock (the default)\n"
        "  -k, --kind KIND                which kind of lock (default: native)\n"
        "  -w, --wait MS                  wait at most MS milliseconds\n"
        "  -n, --nonblock                 do not wait\n"
        "  -E, --conflict-exit-code CODE  exit status if the lock does not come free in time (1)\n"
        "  -o, --close                    the command does not keep the lock\n";

/* sysexits.h, as flock(1) uses it. */
static int status_of(int error)
{
	switch (-error) {
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case ENOLCK:
		return EX_OSERR;
	case EROFS:
	case ENOSPC:
		return EX_CANTCREAT;
	case EINVAL:
		return EX_USAGE;
	default:
		return EX_NOINPUT;
	}
}

static void end(struct run *run, int status)
{
	run->status = status;
	event_base_loopbreak(run->base);
}

/* Not with -o, and not for a kind that holds by something else than a descriptor. */
static bool command_keeps_lock(const struct run *run)
{
	return !run->close_lock && filelock_fd(run->lock) >= 0;
}

static int spawn(struct run *run, posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr)
{
	int fd = filelock_fd(run->lock);
	int r = posix_spawnattr_setsigmask(attr, &run->old_mask);

	if (r == 0)
		r = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK);
	if (r == 0 && command_keeps_lock(run)) /* onto itself: without FD_CLOEXEC */
		r = posix_spawn_file_actions_adddup2(actions, fd, fd);
	if (r == 0)
		r = posix_spawnp(&run->child, run->command[0], actions, attr, run->command,
		                 environ);
	return r;
}

static void start_command(struct run *run)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int r = posix_spawn_file_actions_init(&actions);

	if (r == 0) {
		r = posix_spawnattr_init(&attr);
		if (r == 0) {
			r = spawn(run, &actions, &attr);
			posix_spawnattr_destroy(&attr);
		}
		posix_spawn_file_actions_destroy(&actions);
	}
	if (r == 0)
		return;
	run->child = 0;
	fprintf(stderr, "filelock: cannot run %s: %s\n", run->command[0], strerror(r));
	end(run, r == ENOMEM || r == EAGAIN ? EX_OSERR : EX_UNAVAILABLE);
}

static void on_lock(struct filelock *lock, int result, void *arg)
{
	struct run *run = arg;

	run->waiting = false;
	if (result == 0) {
		start_command(run);
	} else if (result == -ETIMEDOUT) {
		end(run, run->busy_status);
	} else if (result == -ECANCELED) { /* by a signal, which has set the status */
		event_base_loopbreak(run->base);
	} else {
		fprintf(stderr, "filelock: %s\n", filelock_last_error(lock));
		end(run, status_of(result));
	}
}

static void on_child(struct run *run)
{
	int status;

	if (run->child == 0 || waitpid(run->child, &status, WNOHANG) <= 0)
		return;
	run->child = 0;
	end(run, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
	struct run *run = arg;
	struct signalfd_siginfo info;

	(void)what;
	if (read(fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD) {
		on_child(run);
	} else if (run->waiting) {
		run->status = 128 + (int)info.ssi_signo;
		evfilelock_cancel(run->ev, run->lock);
	} else if (run->child && info.ssi_code != SI_KERNEL) {
		kill(run->child, (int)info.ssi_signo);
	}
}

/* Signals that we were started to ignore stay ignored. */
static void add_unless_ignored(sigset_t *set, int number)
{
	struct sigaction action;

	if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
		sigaddset(set, number);
}

static bool watch_signals(struct run *run)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	add_unless_ignored(&set, SIGINT);
	add_unless_ignored(&set, SIGTERM);
	if (signal(SIGCHLD, SIG_DFL) == SIG_ERR || /* ignored, it would leave no status */
	    sigprocmask(SIG_BLOCK, &set, &run->old_mask) < 0)
		return false;
	run->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (run->signals < 0)
		return false;
	run->on_signal = event_new(run->base, run->signals, EV_READ | EV_PERSIST, on_signal, run);
	return run->on_signal && event_add(run->on_signal, NULL) == 0;
}

static bool wait_and_run(struct run *run)
{
	struct timeval limit = { run->wait_ms / 1000, run->wait_ms % 1000 * 1000 };

	run->base = event_base_new();
	run->ev = run->base ? evfilelock_new(run->base, NULL) : NULL;
	if (!run->ev || !watch_signals(run))
		return false;
	run->waiting = evfilelock_acquire(run->ev, run->lock, run->mode,
	                                  run->wait_ms < 0 ? NULL : &limit, on_lock, run) == 0;
	return run->waiting && event_base_dispatch(run->base) == 0;
}

static int print_holder(struct run *run)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	char since[64] = "";
	struct tm tm;
	int r = filelock_holder(run->lock, &owner);

	if (r == FILELOCK_ENOHOLDER || r == -ENOENT) {
		printf("nobody\n");
		return run->busy_status;
	}
	if (r < 0) {
		fprintf(stderr, "filelock: %s: %s\n", run->path, filelock_strerror(r));
		return r == FILELOCK_EUNKNOWNHOLDER ? EX_UNAVAILABLE : status_of(r);
	}
	if (owner.start_time && localtime_r(&(time_t){ owner.start_time }, &tm))
		strftime(since, sizeof(since), ", running since %F %T", &tm);
	printf("pid %ld%s%s, %s%s\n", (long)owner.pid, *owner.host ? " on " : "", owner.host,
	       owner.mode == FILELOCK_SHARED ? "shared" : "exclusive", since);
	return 0;
}

/* flock(1) takes a directory as well; a path's handle wants a regular file, so lend it ours. */
static int open_lock(struct run *run)
{
	struct stat st;

	if (run->kind != FILELOCK_NATIVE || stat(run->path, &st) < 0 || !S_ISDIR(st.st_mode))
		return filelock_open(run->path, run->kind, NULL, &run->lock);
	run->directory = open(run->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (run->directory < 0)
		return -errno;
	return filelock_open_fd(run->directory, NULL, &run->lock);
}

static int run_all(struct run *run)
{
	int r = open_lock(run);

	if (r < 0) {
		const char *text = filelock_last_error(NULL);

		fprintf(stderr, "filelock: %s: %s\n", run->path, *text ? text : strerror(-r));
		return status_of(r);
	}
	if (run->print_holder)
		return print_holder(run);
	if (wait_and_run(run))
		return run->status;
	perror("filelock");
	return EX_OSERR;
}

/* A number from 0 to max, or -1. */
static int number(const char *text, long max)
{
	char *rest;
	long value;

	errno = 0;
	value = strtol(text, &rest, 10);
	return errno || rest == text || *rest || value < 0 || value > max ? -1 : (int)value;
}

enum { OPTION_HOLDER = 256 };

static const struct option options[] = {
	{ "shared", no_argument, NULL, 's' },
	{ "exclusive", no_argument, NULL, 'x' },
	{ "kind", required_argument, NULL, 'k' },
	{ "wait", required_argument, NULL, 'w' },
	{ "nonblock", no_argument, NULL, 'n' },
	{ "conflict-exit-code", required_argument, NULL, 'E' },
	{ "close", no_argument, NULL, 'o' },
	{ "holder", no_argument, NULL, OPTION_HOLDER },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static bool usage_error(const char *what, const char *value)
{
	fprintf(stderr, "filelock: %s%s\n%s", what, value, usage_text);
	return false;
}

static bool parse_option(struct run *run, int option)
{
	int value;

	switch (option) {
	case 's':
		run->mode = FILELOCK_SHARED;
		return true;
	case 'x':
	case 'e':
		run->mode = FILELOCK_EXCLUSIVE;
		return true;
	case 'k':
		value = kind_by_name(optarg);
		run->kind = (enum filelock_kind)value;
		return value >= 0 || usage_error("no such kind: ", optarg);
	case 'w':
		run->wait_ms = number(optarg, INT32_MAX);
		return run->wait_ms >= 0 || usage_error("no number of ms: ", optarg);
	case 'n':
		run->wait_ms = FILELOCK_NO_WAIT;
		return true;
	case 'E':
		run->busy_status = number(optarg, 255);
		return run->busy_status >= 0 || usage_error("no exit status: ", optarg);
	case 'o':
		run->close_lock = true;
		return true;
	case OPTION_HOLDER:
		run->print_holder = true;
		return true;
	case 'h':
		fputs(usage_text, stdout);
		exit(fflush(stdout) == 0 ? 0 : EX_IOERR);
	default:
		return usage_error("unknown option", "");
	}
}

static bool parse(struct run *run, int argc, char **argv)
{
	int option;

	while ((option = getopt_long(argc, argv, "+sxek:w:nE:oh", options, NULL)) >= 0)
		if (!parse_option(run, option))
			return false;
	if (optind == argc)
		return usage_error("no PATH", "");
	run->path = argv[optind++];
	if (optind < argc && strcmp(argv[optind], "--") == 0)
		optind++;
	run->command = argv + optind;
	if (run->print_holder && *run->command)
		return usage_error("--holder takes no COMMAND", "");
	return run->print_holder || *run->command || usage_error("no COMMAND", "");
}

int main(int argc, char **argv)
{
	static struct run run = {
		.wait_ms = FILELOCK_WAIT_FOREVER, .busy_status = 1, .directory = -1, .signals = -1
	};
	int status;

	if (!parse(&run, argc, argv))
		return EX_USAGE;
	status = run_all(&run);
	evfilelock_free(run.ev);
	if (run.on_signal)
		event_free(run.on_signal);
	if (run.base)
		event_base_free(run.base);
	/* Unlocking would take the lock from what the command left behind as well; left alone, it
	   goes when the last of us has closed it. */
	if (!run.lock || !command_keeps_lock(&run))
		filelock_close(run.lock);
	if (fflush(stdout) == EOF)
		status = EX_IOERR;
	return status;
}
