/*
 * fuzz_inotify.c - any bytes as what read(2) gives of an inotify descriptor, while subscriptions
 * come and go; and well-formed events, which must wake exactly the subscriptions that they concern.
 *
 * The kernel is played by the table: watch descriptors are given out by the input.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fuzz.h"
#include "handle.h"
#include "base/sys.h"
#include "inotify.h"

enum { SLOTS = 6, WATCHES = 3, NAMES = 3 };

static const char *const names[NAMES] = { NULL, "a.lock", "b" };

static struct slot {
	struct filelock *lock;
	struct subscription subscription;
	int wd;
	bool woken;
} slots[SLOTS];

static struct sys_table real;
static int next_wd;           /* what inotify_add_watch(2) gives, or -errno */
static const char *buffer;    /* what read(2) gives, or NULL: fails with `error` */
static size_t buffer_size;
static int error;

static int play_add_watch(int fd, const char *path, uint32_t mask)
{
	(void)fd;
	(void)path;
	(void)mask;
	if (next_wd >= 0)
		return next_wd;
	errno = -next_wd;
	return -1;
}

static int play_rm_watch(int fd, int wd)
{
	(void)fd;
	(void)wd;
	errno = EINVAL;
	return -1;
}

static ssize_t play_read(int fd, void *to, size_t size)
{
	(void)fd;
	if (!buffer) {
		errno = error;
		error = EAGAIN; /* once */
		return -1;
	}
	if (size > buffer_size)
		size = buffer_size;
	memcpy(to, buffer, size);
	return (ssize_t)size;
}

static void on_woken(struct filelock *lock, void *arg)
{
	struct slot *slot = arg;

	CHECK(slot->lock == lock);
	slot->woken = true;
}

static void dispatch(struct filelock_watcher *watcher, const void *bytes, size_t size)
{
	for (int i = 0; i < SLOTS; i++)
		slots[i].woken = false;
	/* a copy of that size: a sanitizer sees a read beyond it in `buffer`, not beyond the
	   library's own, whose rest is left as it was */
	buffer = bytes;
	buffer_size = size;
	filelock_watcher_dispatch(watcher);
}

static void subscribe(struct filelock_watcher *watcher, struct input *input)
{
	struct slot *slot = &slots[input_byte(input) % SLOTS];
	const char *name = names[input_byte(input) % NAMES];
	uint32_t mask = (uint32_t)input_number(input, 2) & IN_ALL_EVENTS;
	int r;

	next_wd = (int)(input_byte(input) % (WATCHES + 1)) + 1;
	if (next_wd > WATCHES)
		next_wd = -ENOSPC;
	inotify_unsubscribe(&slot->subscription);
	r = inotify_subscribe(watcher, &slot->subscription, slot->lock, "/nowhere", mask, name);
	CHECK(inotify_is_subscribed(&slot->subscription) == (r == 0));
	CHECK(r == 0 || r == -EIO || r == next_wd);
	slot->wd = next_wd;
}

union event {
	struct inotify_event head;
	char bytes[sizeof(struct inotify_event) + 16];
};

static bool is_same_name(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

/* The subscriptions that an event concerns: the header of inotify.h. */
static bool concerns(const struct slot *slot, const union event *event)
{
	const struct inotify_event *head = &event->head;

	if (head->mask & IN_Q_OVERFLOW)
		return true;
	if (slot->wd != head->wd)
		return false;
	if (head->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT))
		return true;
	return (slot->subscription.mask & head->mask) &&
	       is_same_name(slot->subscription.name, head->len ? head->name : NULL);
}

static void tell(struct filelock_watcher *watcher, struct input *input)
{
	static const uint32_t special[] = { 0, IN_Q_OVERFLOW, IN_IGNORED, IN_UNMOUNT };
	const char *name = names[input_byte(input) % NAMES];
	union event event = { .head = { .wd = (int)(input_byte(input) % (WATCHES + 1)) } };
	bool expected[SLOTS];

	event.head.mask = (uint32_t)input_number(input, 2) & IN_ALL_EVENTS;
	event.head.mask |= special[input_byte(input) % 4];
	if (name) {
		event.head.len = sizeof(event) - sizeof(event.head);
		memcpy(event.bytes + sizeof(event.head), name, strlen(name));
	}
	for (int i = 0; i < SLOTS; i++)
		expected[i] = inotify_is_subscribed(&slots[i].subscription) &&
		              concerns(&slots[i], &event);
	dispatch(watcher, &event, sizeof(event.head) + event.head.len);
	for (int i = 0; i < SLOTS; i++) {
		CHECK(slots[i].woken == expected[i]);
		if ((event.head.mask & (IN_IGNORED | IN_Q_OVERFLOW)) == IN_IGNORED && expected[i])
			CHECK(!inotify_is_subscribed(&slots[i].subscription));
	}
}

static void feed(struct filelock_watcher *watcher, struct input *input)
{
	size_t size;
	const uint8_t *bytes = input_piece(input, 8192, &size);

	dispatch(watcher, bytes ? (const void *)bytes : "", size);
}

/* A descriptor that cannot be read is given up, and with it all subscriptions. */
static void fail_to_read(struct filelock_watcher *watcher, struct input *input)
{
	static const int errors[] = { EINTR, EAGAIN, EIO, EBADF };
	int failure = errors[input_byte(input) % 4];

	error = failure;
	dispatch(watcher, NULL, 0);
	if (failure == EINTR || failure == EAGAIN || filelock_watcher_fd(watcher) < 0)
		return;
	for (int i = 0; i < SLOTS; i++)
		CHECK(!inotify_is_subscribed(&slots[i].subscription));
	CHECK(filelock_watcher_load(watcher) == 0);
}

static void play(struct filelock_watcher *watcher, struct input *input)
{
	switch (input_byte(input) % 6) {
	case 0:
		subscribe(watcher, input);
		break;
	case 1:
		inotify_unsubscribe(&slots[input_byte(input) % SLOTS].subscription);
		break;
	case 2:
		filelock_watcher_tidy(watcher);
		break;
	case 3:
		tell(watcher, input);
		break;
	case 4:
		feed(watcher, input);
		break;
	default:
		fail_to_read(watcher, input);
	}
}

static void open_slots(const struct filelock_driver *driver)
{
	real = sys;
	sys.inotify_add_watch = play_add_watch;
	sys.inotify_rm_watch = play_rm_watch;
	sys.read = play_read;
	for (int i = 0; i < SLOTS; i++) {
		struct slot *slot = &slots[i];

		*slot = (struct slot){ 0 };
		CHECK(filelock_open("/nowhere", FILELOCK_NATIVE, NULL, &slot->lock) == 0);
		CHECK(filelock_begin(slot->lock, FILELOCK_EXCLUSIVE, FILELOCK_NEVER, driver,
		                     slot) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct filelock_driver driver = { .woken = on_woken };
	struct input input = { data, size };
	struct filelock_watcher *watcher;

	CHECK(filelock_watcher_new(&watcher) == 0);
	open_slots(&driver);
	while (input.left > 0)
		play(watcher, &input);
	for (int i = 0; i < SLOTS; i++) {
		inotify_unsubscribe(&slots[i].subscription);
		(void)filelock_give_up(slots[i].lock, -ECANCELED);
		filelock_close(slots[i].lock);
	}
	CHECK(filelock_watcher_load(watcher) == 0);
	filelock_watcher_tidy(watcher);
	filelock_watcher_free(watcher);
	sys = real;
	return 0;
}
