/*
 * etcd.c - sessions and handles: the public face.
 */
#include <filelock/etcd.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "driver_private.h"
#include "event_private.h"
#include "lock.h"

#define SHORTEST_TTL 2000u    /* ms: less etcd does not keep */
#define LONGEST_TTL 3600000u
#define LARGEST_STRUCT 4096 /* of any version: more is a size that was never set */
#define MOST_ENDPOINTS 1000

/* The caller's options, from a header older or newer than ours: what it does not know is zero, what
   we do not know must be. */
static int read_options(const struct filelock_etcd_options *from,
                        struct filelock_etcd_options *ret)
{
	size_t size = from->size;
	size_t known = size < sizeof(*ret) ? size : sizeof(*ret);

	if (size < sizeof(size_t) || size > LARGEST_STRUCT)
		return -EINVAL;
	for (size_t i = known; i < size; i++)
		if (((const unsigned char *)from)[i] != 0)
			return -EINVAL;
	*ret = (struct filelock_etcd_options)FILELOCK_ETCD_OPTIONS_INIT;
	memcpy(ret, from, known);
	return 0;
}

/* NULL, or the option that is out of its range. */
static const char *wrong_option(const struct filelock_etcd_options *options)
{
	if (!options->endpoints || options->endpoint_count == 0 ||
	    options->endpoint_count > MOST_ENDPOINTS)
		return "endpoints";
	if (options->ttl_ms && (options->ttl_ms < SHORTEST_TTL || options->ttl_ms > LONGEST_TTL))
		return "ttl_ms";
	if (!options->cert_file != !options->key_file)
		return "cert_file and key_file go together";
	if (options->password && !options->user)
		return "a password without a user";
	if (options->user && !codec_is_text(options->user))
		return "user: this is not UTF-8";
	if (options->password && !codec_is_text(options->password))
		return "password: this is not UTF-8";
	return NULL;
}

static int refuse(int code, const char *why)
{
	return filelock_fail_open(code, "an etcd session", why);
}

FILELOCK_API int filelock_etcd_open(struct evfilelock *ev,
                                    const struct filelock_etcd_options *options,
                                    struct filelock_etcd **ret_session)
{
	struct filelock_etcd_options checked;
	struct filelock_etcd *session;
	const char *wrong;
	char *why = NULL;
	int r;

	if (!ev || !options || !ret_session)
		return refuse(-EINVAL, "an argument is NULL");
	if (read_options(options, &checked) < 0)
		return refuse(-EINVAL, "size");
	wrong = wrong_option(&checked);
	if (wrong)
		return refuse(-EINVAL, wrong);
	if (evfilelock_is_inherited(ev))
		return refuse(FILELOCK_EFORKED, NULL);
	r = session_new(evfilelock_base(ev), &checked, &lock_events, &why, &session);
	if (r < 0) {
		(void)refuse(r, why);
		free(why);
		return r;
	}
	session_begin(session);
	*ret_session = session;
	return 0;
}

FILELOCK_API void filelock_etcd_close(struct filelock_etcd *session)
{
	if (session)
		session_close(session);
}

/* Whether an option is set that is about files. */
static bool is_about_files(const struct filelock_options *options)
{
	return options->file_mode || options->singleton || options->unlink_on_release ||
	       options->lifetime_ms || options->two_line_marker || options->keep_on_exit ||
	       options->any_extension || options->exact_mode || options->no_parents;
}

FILELOCK_API int filelock_open_etcd(struct filelock_etcd *session, const char *name,
                                    const struct filelock_options *options,
                                    struct filelock **ret_lock)
{
	if (!session || !name || !ret_lock)
		return filelock_fail_open(-EINVAL, name, "an argument is NULL");
	if (!codec_is_name(name))
		return filelock_fail_open(-EINVAL, name,
		                          "a name has 1 to 512 bytes, and no empty part");
	if (options && options->size >= sizeof(*options) && is_about_files(options))
		return filelock_fail_open(-EINVAL, name, "an option that is about files");
	if (session_is_inherited(session))
		return filelock_fail_open(FILELOCK_EFORKED, name, NULL);
	if (session->state >= SESSION_CLOSING)
		return filelock_fail_open(-ECANCELED, name, "the session is closed");
	return lock_open(session, name, options, ret_lock);
}
