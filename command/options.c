/*
 * options.c - reads the command line as flock(1) does, and says what is wrong with it.
 *
 * Statuses are those of flock(1): 64 for wrong use, 71 for a time that no timer can have.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

#include "etcd.h"
#include "kinds.h"
#include "options.h"

static const char help[] =
        "usage: filelock [OPTION]... FILE|FOLDER COMMAND [ARGUMENT]...\n"
        "       filelock [OPTION]... FILE|FOLDER -c 'SHELL COMMAND'\n"
        "       filelock [OPTION]... DESCRIPTOR\n"
        "       filelock [OPTION]... --holder|--break|--claims|--break-claim CLAIM FILE\n"
        "  -x, -e, --exclusive           an exclusive lock (default)\n"
        "  -s, --shared                  a shared lock\n"
        "  -u, --unlock                  remove the lock of DESCRIPTOR\n"
        "  -n, --nb, --nonblock          do not wait\n"
        "  -w, --wait, --timeout SECONDS wait no longer; fractions are allowed\n"
        "  -E, --conflict-exit-code N    status if the lock does not come in time (1)\n"
        "  -o, --close                   the command does not keep the lock\n"
        "  -F, --no-fork                 become the command\n"
        "      --fcntl                   a lock of fcntl(2) instead of flock(2)\n"
        "  -k, --kind KIND               which kind of lock (native)\n"
        "      --endpoints URL[,URL]...  the servers of -k etcd; FILE is a name there\n"
        "  -a, --also FILE               this lock as well, all or none; may be repeated\n"
        "      --timeout-signal SIGNAL   after SECONDS signal the holder, wait once more\n"
        "  -q, --quiet; --wait-message   never name the holder; after a second, anywhere\n"
        "      --holder                  print who holds the lock\n"
        "      --break                   remove a soft lock or a lease by force\n"
        "      --claims, --break-claim C print claims (strict, soft-readwrite), remove C\n"
        "      --verbose                 say how long the wait was\n"
        "  -h, --help; -V, --version     print this, or the version\n"
        "Kinds: ";

enum {
	OPTION_FCNTL = 256,
	OPTION_VERBOSE,
	OPTION_TIMEOUT_SIGNAL,
	OPTION_WAIT_MESSAGE,
	OPTION_ENDPOINTS,
	OPTION_HOLDER,
	OPTION_BREAK,
	OPTION_CLAIMS,
	OPTION_BREAK_CLAIM
};

static const struct option names[] = {
	{ "exclusive", no_argument, NULL, 'x' },
	{ "shared", no_argument, NULL, 's' },
	{ "unlock", no_argument, NULL, 'u' },
	{ "nonblock", no_argument, NULL, 'n' },
	{ "nonblocking", no_argument, NULL, 'n' },
	{ "nb", no_argument, NULL, 'n' },
	{ "wait", required_argument, NULL, 'w' },
	{ "timeout", required_argument, NULL, 'w' },
	{ "conflict-exit-code", required_argument, NULL, 'E' },
	{ "close", no_argument, NULL, 'o' },
	{ "no-fork", no_argument, NULL, 'F' },
	{ "fcntl", no_argument, NULL, OPTION_FCNTL },
	{ "kind", required_argument, NULL, 'k' },
	{ "endpoints", required_argument, NULL, OPTION_ENDPOINTS },
	{ "also", required_argument, NULL, 'a' },
	{ "timeout-signal", required_argument, NULL, OPTION_TIMEOUT_SIGNAL },
	{ "wait-message", no_argument, NULL, OPTION_WAIT_MESSAGE },
	{ "quiet", no_argument, NULL, 'q' },
	{ "holder", no_argument, NULL, OPTION_HOLDER },
	{ "claims", no_argument, NULL, OPTION_CLAIMS },
	{ "break-claim", required_argument, NULL, OPTION_BREAK_CLAIM },
	{ "break", no_argument, NULL, OPTION_BREAK },
	{ "verbose", no_argument, NULL, OPTION_VERBOSE },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

#define DONE 1 /* exit status 0, plus one */

__attribute__((format(printf, 1, 2))) static int wrong(const char *format, ...)
{
	va_list args;

	fputs("filelock: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("\nTry 'filelock --help'.\n", stderr);
	return EX_USAGE + 1;
}

static int print(const char *text, const char *end, const char *also)
{
	printf("%s%s%s\n", text, end, also);
	return fflush(stdout) == 0 ? DONE : EX_IOERR + 1;
}

static int read_number(const char *text, long max, int *ret_number)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < 0 || value > max)
		return -EINVAL;
	*ret_number = (int)value;
	return 0;
}

static int read_wait(struct options *options, const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || isnan(value))
		return wrong("no number of seconds: %s", text);
	if (isinf(value) || value < 0) {
		fprintf(stderr, "filelock: no time to wait: %s\n", text);
		return EX_OSERR + 1;
	}
	options->wait = value;
	options->nonblock |= value == 0;
	return 0;
}

/* A kind of the table is one of files. */
static const char *also_etcd(void)
{
	return etcd_is_built ? ", etcd" : "";
}

static int read_kind(struct options *options, const char *name)
{
	int kind = strcmp(name, "etcd") == 0 ? (int)FILELOCK_ETCD : kind_by_name(name);

	if (kind == FILELOCK_ETCD && !etcd_is_built)
		return wrong("this filelock was built without locks in etcd");
	if (kind < 0)
		return wrong("no such kind: %s; there are %s%s", name, kind_names(), also_etcd());
	options->kind = (enum filelock_kind)kind;
	return 0;
}

/* 15, TERM or SIGTERM. */
static int read_signal(struct options *options, const char *text)
{
	static const struct {
		const char *name;
		int number;
	} signals[] = {
		{ "HUP", SIGHUP },   { "INT", SIGINT },   { "QUIT", SIGQUIT }, { "KILL", SIGKILL },
		{ "TERM", SIGTERM }, { "USR1", SIGUSR1 }, { "USR2", SIGUSR2 }, { "ALRM", SIGALRM },
		{ "CONT", SIGCONT }, { "STOP", SIGSTOP },
	};
	const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;

	if (read_number(text, SIGRTMAX, &options->timeout_signal) == 0 &&
	    options->timeout_signal > 0)
		return 0;
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		if (strcasecmp(signals[i].name, name) == 0) {
			options->timeout_signal = signals[i].number;
			return 0;
		}
	}
	return wrong("no such signal: %s", text);
}

static int set_task(struct options *options, enum task task)
{
	if (options->task != TASK_RUN && options->task != task)
		return wrong("--holder, --break, --claims and --break-claim are tasks of their own");
	options->task = task;
	return 0;
}

static int take(struct options *options, int option)
{
	switch (option) {
	case 's':
		options->mode = FILELOCK_SHARED;
		options->unlock = false;
		return 0;
	case 'x':
	case 'e':
		options->mode = FILELOCK_EXCLUSIVE;
		options->unlock = false;
		return 0;
	case 'u':
		options->unlock = true;
		return 0;
	case 'n':
		options->nonblock = true;
		return 0;
	case 'w':
		return read_wait(options, optarg);
	case 'E':
		if (read_number(optarg, 255, &options->conflict) == 0)
			return 0;
		return wrong("no exit status from 0 to 255: %s", optarg);
	case 'o':
		options->close = true;
		return 0;
	case 'F':
		options->exec = true;
		return 0;
	case 'k':
		return read_kind(options, optarg);
	case 'a':
		options->paths[++options->n] = optarg; /* the first place is kept */
		return 0;
	case 'q':
		options->quiet = true;
		return 0;
	case OPTION_ENDPOINTS:
		options->endpoints = optarg;
		return 0;
	case OPTION_FCNTL:
		options->fcntl = true;
		return 0;
	case OPTION_VERBOSE:
		options->verbose = true;
		return 0;
	case OPTION_TIMEOUT_SIGNAL:
		return read_signal(options, optarg);
	case OPTION_WAIT_MESSAGE:
		options->wait_message = true;
		return 0;
	case OPTION_HOLDER:
		return set_task(options, TASK_HOLDER);
	case OPTION_BREAK:
		return set_task(options, TASK_BREAK);
	case OPTION_CLAIMS:
		return set_task(options, TASK_CLAIMS);
	case OPTION_BREAK_CLAIM:
		options->claim = optarg;
		return set_task(options, TASK_BREAK_CLAIM);
	case 'h':
		return print(help, kind_names(), also_etcd());
	case 'V':
		return print("filelock ", filelock_version(), "");
	default: /* getopt has said it */
		fputs("Try 'filelock --help'.\n", stderr);
		return EX_USAGE + 1;
	}
}

/* FILE -c 'SHELL COMMAND' */
static int take_shell_command(struct options *options, int argc, char **argv)
{
	char *shell = getenv("SHELL");

	if (argc != 2)
		return wrong("-c takes one argument, the command of a shell");
	options->shell_command[0] = shell && *shell ? shell : (char *)"/bin/sh";
	options->shell_command[1] = (char *)"-c";
	options->shell_command[2] = argv[1];
	options->command = options->shell_command;
	return 0;
}

static int take_command(struct options *options, int argc, char **argv)
{
	if (strcmp(argv[0], "-c") == 0 || strcmp(argv[0], "--command") == 0)
		return take_shell_command(options, argc, argv);
	options->command = argv;
	return 0;
}

static int take_descriptor(struct options *options, const char *text)
{
	if (read_number(text, INT_MAX, &options->descriptor) < 0)
		return wrong("no COMMAND, and no number of a descriptor: %s", text);
	options->task = TASK_DESCRIPTOR;
	return 0;
}

/* After the options: what is to be locked, and a command. */
static int take_arguments(struct options *options, int argc, char **argv)
{
	if (argc == 0)
		return wrong("no FILE");
	options->paths[0] = argv[0];
	options->n++;
	if (options->task == TASK_RUN)
		return argc == 1 ? take_descriptor(options, argv[0]) :
		                   take_command(options, argc - 1, argv + 1);
	return argc == 1 ? 0
	                 : wrong("--holder, --break and those of claims take no COMMAND; "
	                         "options come before FILE");
}

static bool can_be_shared(enum filelock_kind kind)
{
	return kind == FILELOCK_ETCD || kind_reader_mode(kind) == FILELOCK_SHARED;
}

static int check_etcd(const struct options *options)
{
	bool etcd = options->kind == FILELOCK_ETCD;

	if (etcd && !options->endpoints)
		return wrong("-k etcd needs --endpoints: http://HOST:PORT, or several with commas");
	if (!etcd && options->endpoints)
		return wrong("--endpoints are the servers of -k etcd");
	if (etcd && (options->task == TASK_HOLDER || options->task == TASK_BREAK))
		return wrong("--holder and --break are for locks on files; for one in etcd use "
		             "etcdctl get --prefix NAME//");
	return 0;
}

/* What does not go together. */
static int check(const struct options *options)
{
	bool native = options->kind == FILELOCK_NATIVE;
	bool claims = options->task == TASK_CLAIMS || options->task == TASK_BREAK_CLAIM;

	if (claims && options->kind != FILELOCK_STRICT &&
	    options->kind != FILELOCK_SOFT_READWRITE)
		return wrong("--claims and --break-claim are for strict and soft read/write locks: "
		             "with -k strict or -k soft-readwrite");
	if (options->exec && options->close)
		return wrong("-F becomes the command, so with -o nobody would hold the lock");
	if (options->exec && !native && options->kind != FILELOCK_SOFT)
		return wrong("-F: a lock of this kind ends with exec(2)");
	if (options->mode == FILELOCK_SHARED && !can_be_shared(options->kind))
		return wrong("-s: a lock of this kind cannot be shared");
	if (!native && (options->fcntl || options->unlock || options->task == TASK_DESCRIPTOR))
		return wrong("--fcntl, -u and a DESCRIPTOR are for native locks: without -k");
	if (options->n > 1 && (options->fcntl || options->unlock || options->task != TASK_RUN))
		return wrong("-a goes with a FILE and a COMMAND, without --fcntl and -u");
	if (options->fcntl && (options->task == TASK_HOLDER || options->task == TASK_BREAK))
		return wrong("the system does not say who holds a lock of --fcntl");
	if (options->timeout_signal &&
	    (options->fcntl || (!native && options->kind != FILELOCK_READWRITE)))
		return wrong("--timeout-signal needs a lock whose holder the kernel names");
	if (options->timeout_signal && options->wait < 0)
		return wrong("--timeout-signal needs the time after which to send it: -w");
	return check_etcd(options);
}

int options_read(struct options *options, int argc, char **argv)
{
	int option, r;

	*options = (struct options){ .wait = -1, .conflict = 1, .descriptor = -1 };
	if (argc < 2)
		return wrong("no FILE");
	options->paths = calloc((size_t)argc + 1, sizeof(*options->paths));
	if (!options->paths) {
		perror("filelock");
		return EX_OSERR + 1;
	}
	while ((option = getopt_long(argc, argv, "+sexunw:E:oFk:a:qhV", names, NULL)) >= 0) {
		r = take(options, option);
		if (r != 0)
			return r;
	}
	r = take_arguments(options, argc - optind, argv + optind);
	return r != 0 ? r : check(options);
}
