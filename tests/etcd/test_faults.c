/* Every call to etcd goes wrong in every way, one at a time: all requests are answered, nobody holds
   beside another, and nothing is left behind. */
#include "gateway.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

struct scene {
	struct loop loop;
	struct gateway *gateway;
	struct filelock_etcd *sessions[2];
	struct asked asked[3];
	unsigned inside, done;
};

static void on_released(struct filelock *lock, int result, void *arg)
{
	struct scene *scene = arg;

	(void)lock;
	ck_assert_int_eq(result, 0);
	scene->done++;
}

static void enter(struct asked *asked)
{
	struct scene *scene = asked->arg;

	ck_assert_int_eq(asked->result, 0);
	ck_assert_uint_eq(scene->inside++, 0);
	ck_assert(filelock_is_held(asked->lock));
	scene->inside--;
	ck_assert_int_eq(evfilelock_release(scene->loop.ev, asked->lock, on_released, scene), 0);
}

/* No answer comes, and none will: the time for it is over. */
static void hurry(struct scene *scene, enum fault_way way)
{
	bool silent = way == WAY_SILENT || way == WAY_DEAF || way == WAY_CUT;

	turn_until(&scene->loop, gateway_fault_is_met(scene->gateway) || scene->done == 3);
	for (unsigned i = 0; silent && i < 2; i++) {
		gateway_hurry(scene->sessions[i]);
		scene->sessions[i]->calls.patience = 300; /* for goodbyes, which may be made twice */
	}
}

/* Two sessions, three requests for one lock. Whether the fault was met. */
static bool play(enum fault_way way, unsigned nth)
{
	struct scene scene = { .loop = loop_new() };
	bool met;

	scene.gateway = gateway_new(scene.loop.base);
	for (unsigned i = 0; i < 2; i++)
		scene.sessions[i] = gateway_session(scene.gateway, &scene.loop);
	gateway_fault(scene.gateway, NULL, nth, way);
	for (unsigned i = 0; i < 3; i++) {
		scene.asked[i] = (struct asked){ .lock = gateway_lock(scene.sessions[i % 2], "a"),
			                         .then = enter,
			                         .arg = &scene };
		loop_ask(&scene.loop, &scene.asked[i], EXCLUSIVE, -1);
	}
	hurry(&scene, way);
	turn_until(&scene.loop, scene.done == 3);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(scene.asked[i].calls, 1);
		filelock_close(scene.asked[i].lock);
	}
	for (unsigned i = 0; i < 2; i++)
		gateway_goodbye(&scene.loop, scene.sessions[i]);
	ck_assert_uint_eq(gateway_keys(scene.gateway), 0);
	met = gateway_calls(scene.gateway) >= nth;
	evfilelock_free(scene.loop.ev);
	gateway_free(scene.gateway);
	loop_drain(&scene.loop);
	event_base_free(scene.loop.base);
	return met;
}

START_TEST(test_any_call_may_go_wrong_in_any_way)
{
	unsigned n = 0;

	while (play((enum fault_way)_i, ++n))
		continue;
	ck_assert_uint_ge(n, 10); /* two leases come and go; two keys are made and deleted, one is looked at */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("etcd_faults");
	TCase *tcase = tcase_create("every call");

	tcase_add_loop_test(tcase, test_any_call_may_go_wrong_in_any_way, WAY_NONE, WAY_LATE);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
