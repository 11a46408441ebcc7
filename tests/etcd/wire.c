/*
 * wire.c - two network namespaces, and a wire between them.
 *
 * Both ends have fixed addresses of their own on the wire, and know each other's. A wrong one sends packets to
 * nobody: no error comes back, and nothing tells that they are lost.
 */
#include "wire.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define NEAR_MAC "02:00:00:00:00:01"
#define FAR_MAC "02:00:00:00:00:02"
#define NOBODY "02:00:00:00:00:99"
#define WIRE_FAR "10.77.0.2"

static bool run(const char *command)
{
	char quiet[512];

	(void)snprintf(quiet, sizeof(quiet), "{ %s; } >/dev/null 2>&1", command);
	return system(quiet) == 0;
}

static int open_own(void)
{
	return open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
}

static int stay(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return 0;
}

static void go(int ns)
{
	ck_assert_int_eq(setns(ns, CLONE_NEWNET), 0);
}

void wire_go_far(const struct wire *wire)
{
	go(wire->far);
}

void wire_go_near(const struct wire *wire)
{
	go(wire->near);
}

/* In the far one. */
static bool lay(const struct wire *wire)
{
	char command[256];

	(void)snprintf(command, sizeof(command),
	               "ip link set lo up && ip link add far address " FAR_MAC
	               " type veth peer name near address " NEAR_MAC " netns %d && "
	               "ip address add " WIRE_FAR "/30 dev far && ip link set far up", wire->keeper);
	if (!run(command))
		return false;
	wire_go_near(wire);
	return run("ip link set lo up && ip address add " WIRE_NEAR "/30 dev near && ip link set near up");
}

bool wire_make(struct wire *wire)
{
	if (!run("ip link") || unshare(CLONE_NEWNET) < 0) {
		test_skip("no network namespace can be made here, or there is no ip(8)");
		return false;
	}
	wire->near = open_own();
	wire->keeper = test_fork(stay, NULL);
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	wire->far = open_own();
	ck_assert(wire->near >= 0 && wire->far >= 0);
	if (!lay(wire)) {
		test_skip("no wire between network namespaces can be made here");
		wire_end(wire);
		return false;
	}
	wire_cut(wire, CUT_NONE);
	return true;
}

static void aim(const char *device, const char *address, const char *mac)
{
	char command[256];

	(void)snprintf(command, sizeof(command), "ip neigh replace %s lladdr %s nud permanent dev %s",
	               address, mac, device);
	ck_assert(run(command));
}

void wire_cut(const struct wire *wire, enum cut cut)
{
	bool loses_answers = cut == CUT_BOTH || cut == CUT_ANSWERS;
	bool loses_requests = cut == CUT_BOTH || cut == CUT_REQUESTS;

	aim("near", WIRE_FAR, loses_answers ? NOBODY : FAR_MAC);
	wire_go_far(wire);
	aim("far", WIRE_NEAR, loses_requests ? NOBODY : NEAR_MAC);
	wire_go_near(wire);
}

void wire_end(struct wire *wire)
{
	(void)kill(wire->keeper, SIGKILL);
	ck_assert_int_eq(test_reap(wire->keeper), 128 + SIGKILL);
	ck_assert_int_eq(close(wire->near), 0);
	ck_assert_int_eq(close(wire->far), 0);
}
