#!/usr/bin/env bash
# libevent: event_base_loop(base, EVLOOP_NONBLOCK) goes on as long as each turn runs a callback. A timer
# of no delay that its callback sets again runs as often as it is set, in one call; so does a busy server's
# loop that always has something due. With EVLOOP_ONCE beside it the call ends after one turn.
#
# Expected, by event2/event.h ("run the callbacks of the highest-priority ones, then exit"): one turn.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=2.1.12-stable-8
"$here/unpack" "$work" bookworm "libevent-dev=$version" "libevent-core-2.1-7=$version"
cat >"$work/turns.c" <<'EOF'
#include <event2/event.h>
#include <stdio.h>

#define TIMES 1000

static struct event *timer;
static unsigned calls;

static void tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	if (++calls < TIMES)
		event_add(timer, &(struct timeval){ 0, 0 });
}

static unsigned calls_of_one_loop(int flags)
{
	struct event_base *base = event_base_new();

	calls = 0;
	timer = event_new(base, -1, 0, tick, NULL);
	event_add(timer, &(struct timeval){ 0, 0 });
	event_base_loop(base, flags);
	event_free(timer);
	event_base_free(base);
	return calls;
}

int main(void)
{
	unsigned nonblock = calls_of_one_loop(EVLOOP_NONBLOCK);

	printf("NONBLOCK: %u; with ONCE: %u\n", nonblock, calls_of_one_loop(EVLOOP_NONBLOCK | EVLOOP_ONCE));
	return 0;
}
EOF
include=$work/usr/include
library=$work/usr/lib/x86_64-linux-gnu
cc -std=c11 -I"$include" -I"$include/x86_64-linux-gnu" "$work/turns.c" -o "$work/turns" "$library"/libevent_core-2.1.so.7
export LD_LIBRARY_PATH=$library
seen=$("$work/turns")
echo "version: $version"
echo "expected: NONBLOCK: 1; with ONCE: 1"
echo "seen:     $seen"
[ "$seen" = "NONBLOCK: 1000; with ONCE: 1" ] || {
	echo "changed: it was 'NONBLOCK: 1000; with ONCE: 1'"
	exit 1
}
