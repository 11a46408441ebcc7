/*
 * etcd.c - -k etcd: the session on which the locks are.
 *
 * No descriptor is the lock, so the command cannot inherit it: this process renews the lease while the
 * command runs, and gives it back when the command has ended. If the lease is lost before that, somebody
 * else may hold the lock: the command gets SIGTERM.
 */
#include "etcd.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#ifdef COMMAND_ETCD

#include <filelock/etcd.h>

const bool etcd_is_built = true;

/* "URL,URL": as many pointers into the text, whose commas become ends. */
static size_t split(char *text, const char **ret_parts)
{
	size_t n = 0;

	for (char *part; (part = strsep(&text, ","));)
		ret_parts[n++] = part;
	return n;
}

static size_t count_parts(const char *text)
{
	size_t n = 1;

	for (; *text; text++)
		n += *text == ',';
	return n;
}

static int open_session(struct run *run, char *urls, const char **endpoints)
{
	struct filelock_etcd_options options = FILELOCK_ETCD_OPTIONS_INIT;

	options.endpoints = endpoints;
	options.endpoint_count = split(urls, endpoints);
	return filelock_etcd_open(run->ev, &options, &run->session);
}

int etcd_begin(struct run *run)
{
	char *urls = strdup(run->options->endpoints);
	const char **endpoints =
	        calloc(count_parts(run->options->endpoints), sizeof(*endpoints));
	int r = -ENOMEM;

	if (urls && endpoints && run_make_loop(run)) {
		r = open_session(run, urls, endpoints);
		if (r < 0)
			fprintf(stderr, "filelock: %s\n", filelock_last_error(NULL));
	} else {
		perror("filelock");
	}
	free(endpoints);
	free(urls);
	return r == 0 ? 0 : r == -EINVAL ? EX_USAGE : EX_OSERR;
}

int etcd_open_lock(struct filelock_etcd *session, const char *name, struct filelock **ret_handle)
{
	return filelock_open_etcd(session, name, NULL, ret_handle);
}

const char *etcd_trouble(struct filelock_etcd *session)
{
	return filelock_etcd_last_error(session);
}

static void on_lost(struct filelock *lock, int result, void *arg)
{
	struct run *run = arg;

	fprintf(stderr, "filelock: %s: %s\n", filelock_path(lock), filelock_strerror(result));
	if (run->child && !run->told_of_loss && kill(run->child, SIGTERM) == 0)
		fputs("filelock: sent SIGTERM to the command\n", stderr);
	run->told_of_loss = true;
}

int etcd_guard_command(struct run *run)
{
	for (size_t i = 0; run->session && i < run->n; i++) {
		int r = evfilelock_on_lost(run->ev, run->locks[i].handle, on_lost, run);

		if (r < 0)
			return r;
	}
	return 0;
}

void etcd_end(struct run *run)
{
	filelock_etcd_close(run->session);
}

#else

const bool etcd_is_built = false;

/* The options were refused before any of these could be called. */

int etcd_begin(struct run *run)
{
	(void)run;
	return EX_USAGE;
}

int etcd_open_lock(struct filelock_etcd *session, const char *name, struct filelock **ret_handle)
{
	(void)session, (void)name, (void)ret_handle;
	return -ENOTSUP;
}

const char *etcd_trouble(struct filelock_etcd *session)
{
	(void)session;
	return "";
}

int etcd_guard_command(struct run *run)
{
	(void)run;
	return 0;
}

void etcd_end(struct run *run)
{
	(void)run;
}

#endif
