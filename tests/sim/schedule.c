/*
 * schedule.c - depth-first search over schedules, by execution from the start.
 *
 * Before each call that others can notice a process comes here, and it is chosen who goes on:
 *
 *   run      a thread that is not asleep makes its next call;
 *   die      one that was killed closes its next descriptor, becomes a zombie, is reaped;
 *   kill     the one whose call is next vanishes instead;
 *   stop     the one whose call is next, or one that waits in flock(2), does not run for half a
 *            second;
 *   pass     time goes on to when the next sleeper wakes: if nobody can run, or as a stall.
 *
 * An execution is the string of its choices, where there was more than one: a digit each, 0 for
 * "go on with the one that runs". The next execution is the same up to the last choice that has
 * another way left. The processes do the same when they have been told the same, so an execution
 * that comes to a state which was met before (the kernel, and what each process has been told) is
 * cut short: everything from there on has been tried, or is about to be.
 *
 * All may sleep at once only where the library means to come again by the clock (as after a close
 * that tells before it unlocks), and no longer: else somebody has missed a wake-up. The safety poll
 * comes once an hour.
 */
#include "schedule.h"

#include <stdio.h>
#include <string.h>

#include "oracle.h"
#include "seen.h"

#define MICROSECOND INT64_C(1000)
#define MILLISECOND INT64_C(1000000)
#define SECOND INT64_C(1000000000)
#define STALL (3 * SECOND)
#define STOP_LASTS (SECOND / 2)

enum { MOST_CHOICES = 4000, MOST_POINTS = 20000, MOST_ACTIONS = 24 };

enum verb { RUN, DIE, KILL, STOP, PASS };

struct action {
	enum verb verb;
	unsigned who; /* the thread that runs, or the process */
};

static struct {
	const struct scenario *scenario;
	unsigned processes;
	bool random, telling;
	uint64_t dice;

	/* the execution under way */
	unsigned char choices[MOST_CHOICES]; /* those made; before `prefix` they are given */
	unsigned char widths[MOST_CHOICES];  /* how many there were to choose from */
	unsigned depth, prefix;
	unsigned points;
	unsigned crashes, stops, stalls, preemptions; /* that are left */
	int64_t slept; /* while nobody could run */
	int64_t late;  /* and the lock was free for one of them */
	bool cut;      /* its end is known already */
	char failure[200]; /* empty: none */
} x;

/* --- what can happen next --- */

static bool is_live(unsigned task)
{
	return sim_has_task(task) && sim_life(sim_process_of(task)) == SIM_ALIVE &&
	       !processes_is_done(task);
}

static bool can_run(unsigned task)
{
	return is_live(task) && sim_can_run(task);
}

static unsigned add(struct action *actions, unsigned n, enum verb verb, unsigned who)
{
	actions[n] = (struct action){ verb, who };
	return n + 1;
}

/* Those that bring somebody on; the one that runs comes first. */
static unsigned collect_progress(struct action *actions)
{
	unsigned current = sim_task();
	bool goes_on = can_run(current);
	unsigned n = goes_on ? add(actions, 0, RUN, current) : 0;

	if (goes_on && x.scenario->preempt_few && x.preemptions == 0)
		return n;
	for (unsigned p = 0; p < x.processes; p++) {
		if (p != current && can_run(p))
			n = add(actions, n, RUN, p);
		if (sim_life(p) == SIM_DYING)
			n = add(actions, n, DIE, p);
	}
	for (unsigned t = SIM_PROCESSES; t < SIM_TASKS; t++)
		if (t != current && can_run(t))
			n = add(actions, n, RUN, t);
	return n;
}

/* The one whose call is next, and those with a thread in flock(2). */
static bool may_stop(unsigned process)
{
	if (!sim_can_stop(process))
		return false;
	return sim_wait_count(process) > 0 || (process == sim_current() && can_run(sim_task()));
}

static unsigned collect(struct action *actions)
{
	unsigned n = collect_progress(actions);
	unsigned current = sim_current();
	bool stuck = n == 0;
	bool waiting = false;

	for (unsigned t = 0; t < SIM_TASKS; t++)
		waiting = waiting || (is_live(t) && !sim_can_run(t));
	/* nobody need reap a zombie before others go on */
	if (stuck ? waiting : x.stalls > 0)
		n = add(actions, n, PASS, 0);
	for (unsigned p = 0; p < x.processes && n > 0; p++)
		if (sim_life(p) == SIM_ZOMBIE)
			n = add(actions, n, DIE, p);
	if (x.crashes > 0 && !stuck && can_run(sim_task()) &&
	    !(x.scenario->spared & 1u << current))
		n = add(actions, n, KILL, current);
	for (unsigned p = 0; p < x.processes && x.stops > 0 && !stuck; p++)
		if (may_stop(p))
			n = add(actions, n, STOP, p);
	return n;
}

/* --- choosing --- */

static void end_execution(void)
{
	processes_leave();
}

void execution_fail(const char *what)
{
	if (!x.failure[0])
		(void)snprintf(x.failure, sizeof(x.failure), "%s", what);
	end_execution();
}

static uint64_t roll(void)
{
	x.dice ^= x.dice << 13;
	x.dice ^= x.dice >> 7;
	x.dice ^= x.dice << 17;
	return x.dice;
}

static uint64_t state_hash(void)
{
	uint64_t budgets = x.crashes + 16 * x.stalls + (UINT64_C(1) << 32) * x.stops;

	if (x.scenario->preempt_few)
		budgets += 256 * x.preemptions + 65536 * sim_task();
	return (sim_state_hash() ^ budgets) * UINT64_C(0x9e3779b97f4a7c15);
}

static unsigned choose(unsigned n)
{
	unsigned choice = 0;

	if (x.depth == MOST_CHOICES)
		execution_fail("more choices than an execution may have");
	if (x.depth < x.prefix)
		choice = x.choices[x.depth];
	else if (x.random)
		choice = roll() % 4 ? 0 : (unsigned)(roll() % n);
	else if (!x.telling && seen_add(state_hash())) {
		x.cut = true;
		end_execution();
	}
	if (choice >= n)
		execution_fail("these choices are of another execution");
	x.choices[x.depth] = (unsigned char)choice;
	x.widths[x.depth++] = (unsigned char)n;
	return choice;
}

/* --- doing it --- */

static void tell(unsigned process, const char *line)
{
	printf("%10.3f ms  %u  %s\n", (double)(sim_now() - SIM_BEGIN) / 1e6, process, line);
}

static void count_sleep(int64_t ns)
{
	x.slept += ns;
	if (x.slept > x.scenario->sleeps_ms * MILLISECOND)
		execution_fail("a missed wake-up: all sleep for longer than they may");
	if (!x.scenario->late_us || !oracle_is_wanted())
		return;
	x.late += ns;
	if (x.late > x.scenario->late_us * MICROSECOND)
		execution_fail("a missed wake-up: the lock is free, and who waits for it sleeps");
}

static void pass_time(bool stuck)
{
	int64_t next = INT64_MAX;

	for (unsigned t = 0; t < SIM_TASKS; t++)
		if (is_live(t) && !sim_can_run(t) && sim_wakes_at(t) < next)
			next = sim_wakes_at(t);
	if (!stuck) {
		x.stalls--;
		if (next == INT64_MAX || next - sim_now() > STALL)
			next = sim_now() + STALL;
	} else if (next == INT64_MAX) {
		execution_fail("all sleep for ever");
	}
	if (stuck)
		count_sleep(next - sim_now());
	sim_advance(next);
	if (x.telling)
		tell(9, stuck ? "all sleep; time passes" : "a stall: time passes");
}

static void kill_process(unsigned process)
{
	x.crashes--;
	if (x.telling)
		tell(process, "is killed");
	sim_kill(process);
	oracle_died(process);
}

static void stop_process(unsigned process)
{
	x.stops--;
	if (x.telling)
		tell(process, "is stopped");
	sim_stop(process, sim_now() + STOP_LASTS);
}

/* Until it is the turn of a thread to run, which may be the caller. */
static void schedule(void)
{
	struct action actions[MOST_ACTIONS];
	unsigned n, current = sim_task();
	struct action action;

	if (++x.points > MOST_POINTS)
		execution_fail("it does not come to an end");
	for (;;) {
		oracle_check();
		n = collect(actions);
		if (n == 0)
			end_execution();
		action = actions[n > 1 ? choose(n) : 0];
		if (action.verb == RUN)
			break;
		if (action.verb == DIE)
			(void)sim_die(action.who);
		else if (action.verb == KILL)
			kill_process(action.who);
		else if (action.verb == STOP)
			stop_process(action.who);
		else
			pass_time(actions[0].verb == PASS);
		if (x.telling && action.verb == DIE)
			tell(action.who, "dies on");
	}
	if (action.who != current && can_run(current) && x.preemptions > 0)
		x.preemptions--;
	processes_enter(action.who);
}

void processes_ended(unsigned task)
{
	(void)task;
	schedule();
}

static int before_call(const char *call, bool noticed)
{
	unsigned char task = (unsigned char)sim_task();

	if (!noticed)
		return 0;
	sim_learn(&task, 1);
	schedule();
	oracle_call(call);
	return 0;
}

void pause_here(const char *where)
{
	(void)before_call(where, true);
}

/* --- executions --- */

static void begin_execution(void)
{
	const struct scenario *s = x.scenario;

	x.depth = x.points = 0;
	x.slept = x.late = 0;
	x.cut = false;
	x.failure[0] = '\0';
	x.crashes = s->crashes;
	x.stops = s->stops;
	x.stalls = s->stalls;
	x.preemptions = s->preemptions;
	sim_hooks = (struct sim_hooks){ 0 };
	processes_begin(s->mains, x.processes);
	oracle_begin(s);
	if (s->before)
		s->before();
	sim_hooks.before = before_call;
	sim_hooks.sleep = schedule;
	if (x.telling)
		sim_hooks.trace = tell;
}

static void execute(void)
{
	begin_execution();
	processes_enter(0);
	sim_hooks = (struct sim_hooks){ 0 };
	if (!x.failure[0] && !x.cut)
		oracle_end(x.failure, sizeof(x.failure));
}

/* The next in the order of a depth-first search; false: all are done. */
static bool advance(void)
{
	while (x.depth > 0 && x.choices[x.depth - 1] + 1 >= x.widths[x.depth - 1])
		x.depth--;
	if (x.depth == 0)
		return false;
	x.choices[x.depth - 1]++;
	x.prefix = x.depth;
	return true;
}

static void print_choices(void)
{
	unsigned length = x.depth;

	while (length > 0 && x.choices[length - 1] == 0)
		length--;
	for (unsigned i = 0; i < length; i++)
		putchar("0123456789abcdefghijklmnopqrstuvwxyz"[x.choices[i]]);
	if (length == 0)
		putchar('0');
	putchar('\n');
}

static void read_choices(const char *text)
{
	for (x.prefix = 0; text[x.prefix] && x.prefix < MOST_CHOICES; x.prefix++) {
		char c = text[x.prefix];

		x.choices[x.prefix] = (unsigned char)(c >= 'a' ? c - 'a' + 10 : c - '0');
	}
}

static bool replay(const char *text)
{
	x.telling = true;
	read_choices(text);
	execute();
	printf("%s: %s\n", x.scenario->name, x.failure[0] ? x.failure : "nothing is wrong");
	return !x.failure[0];
}

static unsigned count_processes(const struct scenario *scenario)
{
	unsigned n = 0;

	while (n < SIM_PROCESSES && scenario->mains[n])
		n++;
	return n;
}

bool schedule_run(const struct scenario *scenario, const struct run_options *options,
                  bool *ret_whole)
{
	unsigned long done = 0;
	bool more = true;

	memset(&x, 0, sizeof(x));
	x.scenario = scenario;
	x.processes = count_processes(scenario);
	x.random = options->seed != 0;
	x.dice = options->seed;
	seen_clear();
	*ret_whole = false;
	if (options->replay)
		return replay(options->replay);
	while (more && done < options->schedules && !x.failure[0]) {
		execute();
		done++;
		if (!x.failure[0] && !x.random)
			more = advance();
	}
	printf("%-28s %8lu schedules, %8zu states%s\n", scenario->name, done, seen_count(),
	       more ? "" : ", all there are");
	*ret_whole = !more;
	if (!x.failure[0])
		return true;
	printf("%s: %s\nreplay: --scenario %s --replay ", scenario->name, x.failure,
	       scenario->name);
	print_choices();
	return false;
}
