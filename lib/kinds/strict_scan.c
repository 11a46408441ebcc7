#include "kinds/strict_scan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEFT_OVER INT64_C(2000000000) /* ns, after which nobody publishes it any more */
#define MOST_SWEPT 16                 /* in a scan: each takes a file of ours, and a loop waits */

struct scanning {
	int folder;
	struct strict_scan *scan;
	unsigned swept;
};

static int blame(struct strict_scan *scan, const char *name, const char *reason)
{
	(void)snprintf(scan->culprit, sizeof(scan->culprit), "%s", name);
	scan->reason = reason;
	return FILELOCK_EPROTOCOL;
}

int strict_scan_sweep(int folder, const char *private_name, const char *public_name)
{
	char *probe;
	int r = strict_record_make_private(public_name, &probe);

	if (r < 0)
		return r;
	r = folder_sweep(folder, private_name, probe, LEFT_OVER);
	free(probe);
	/* another user's, in a folder where only its owner removes it */
	return r == -EACCES || r == -EPERM ? 0 : r;
}

static int sweep(struct scanning *s, const char *name)
{
	char public_name[NAME_MAX + 1];
	struct strict_name parsed;
	int r;

	if (!s->scan->sweeps || s->swept >= MOST_SWEPT ||
	    !strict_record_parse_private(name, public_name) ||
	    !strict_record_parse_name(public_name, &parsed))
		return 0;
	s->swept++;
	r = strict_scan_sweep(s->folder, name, public_name);
	if (r == FILELOCK_ENOTREGULAR)
		return blame(s->scan, name, "no regular file");
	return r < 0 ? r : 0;
}

static void note(struct strict_scan *scan, const char *name, const struct strict_name *parsed)
{
	if (scan->claims == 0 || strcmp(name, scan->least_name) < 0)
		(void)snprintf(scan->least_name, sizeof(scan->least_name), "%s", name);
	if (scan->claims == 0 || strcmp(parsed->token, scan->least_token) < 0)
		strcpy(scan->least_token, parsed->token);
	scan->claims++;
	scan->any_held = scan->any_held || parsed->held;
	if (parsed->held)
		strict_record_format_name(scan->blocking, false, parsed->token);
	if (strcmp(parsed->token, scan->token) != 0)
		return;
	if (parsed->held)
		scan->has_held = true;
	else
		scan->has_intent = true;
}

/* Everything that is odd fails closed, but for what is gone and for what this system is short of. */
static int judge_unread(struct strict_scan *scan, const char *name, int error)
{
	switch (error) {
	case -ENOENT:
		return 0;
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
		return error;
	case -EACCES:
	case -ESTALE:
		if (scan->skipped && strcmp(scan->skipped, name) == 0)
			return 0;
		(void)blame(scan, name, "it cannot be read");
		scan->pending = error;
		return -EAGAIN;
	case FILELOCK_ENOTREGULAR:
		return blame(scan, name, "no regular file");
	default:
		return blame(scan, name, "it cannot be read");
	}
}

static int take_claim(struct scanning *s, const char *name, const struct strict_name *parsed)
{
	char bytes[MARKER_SIZE + 1];
	struct marker owner;
	ssize_t n = folder_read(s->folder, name, bytes, sizeof(bytes), NULL);

	if (n < 0)
		return judge_unread(s->scan, name, (int)n);
	if (!strict_record_parse(bytes, (size_t)n, parsed->token, &owner))
		return blame(s->scan, name, "malformed claim");
	note(s->scan, name, parsed);
	if (s->scan->take)
		s->scan->take(name, parsed, &owner, s->scan->arg);
	return 0;
}

static int take_name(const char *name, void *arg)
{
	struct scanning *s = arg;
	struct strict_name parsed;

	if (*name == '.')
		return sweep(s, name);
	if (!strict_record_parse_name(name, &parsed))
		return blame(s->scan, name, "no claim of a version that is known here");
	if (strcmp(parsed.token, s->scan->token) != 0)
		return take_claim(s, name, &parsed);
	note(s->scan, name, &parsed); /* ours need not be read */
	return 0;
}

int strict_scan_claims(int folder, struct strict_scan *scan)
{
	struct scanning s = { folder, scan, 0 };
	int r;

	scan->claims = 0;
	scan->any_held = scan->has_intent = scan->has_held = false;
	scan->blocking[0] = scan->culprit[0] = '\0';
	r = folder_list(folder, take_name, &s);
	/* the folder was removed, or its server says so */
	return r == -ENOENT || (r == -ESTALE && !scan->culprit[0]) ? -EAGAIN : r;
}
