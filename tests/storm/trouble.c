/* trouble.c - what was found, in shared memory; and small things that all need. */
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "storm.h"

struct arena *arena;

void trouble_note(enum trouble_type type, const char *format, ...)
{
	unsigned at = atomic_fetch_add(&arena->trouble_count, 1);
	struct trouble *trouble = &arena->troubles[at];
	va_list arguments;

	atomic_store(&arena->stopping, true);
	if (at >= MOST_TROUBLES)
		return;
	trouble->type = type;
	va_start(arguments, format);
	(void)vsnprintf(trouble->text, sizeof(trouble->text), format, arguments);
	va_end(arguments);
	atomic_store(&trouble->told, true);
}

unsigned trouble_count(enum trouble_type type)
{
	unsigned count = 0;

	for (unsigned i = 0; i < MOST_TROUBLES; i++)
		count += atomic_load(&arena->troubles[i].told) && arena->troubles[i].type == type;
	return count;
}

const char *kind_name(enum filelock_kind kind)
{
	static const char *const names[KINDS] = { "native", "soft",   "readwrite",
		                                  "lease",  "strict", "soft-readwrite" };

	return names[kind];
}

const char *who_text(uint32_t who)
{
	static char texts[4][96];
	static unsigned next;
	char *text = texts[next++ % 4];
	const struct life *life = life_of(who);

	if (who == 0)
		return "nobody";
	if (who % NUMBERS == CHILD_NUMBER)
		(void)snprintf(text, sizeof(texts[0]), "a child of pid %d (life %u)",
		               (int)life->pid, who / NUMBERS);
	else
		(void)snprintf(text, sizeof(texts[0]), "pid %d (%s, life %u, handle %u%s)",
		               (int)life->pid, life->event ? "loop" : "synchronous",
		               who / NUMBERS, who % NUMBERS,
		               who_is_marked(who) ? ", killed" : "");
	return text;
}

/* splitmix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators" */
uint64_t dice_roll(struct dice *dice)
{
	uint64_t z = dice->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

int64_t now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

void nap(int64_t nanoseconds)
{
	(void)nanosleep(&(struct timespec){ nanoseconds / SECOND, nanoseconds % SECOND }, NULL);
}

void spin(int64_t nanoseconds)
{
	int64_t end = now() + nanoseconds;

	while (now() < end) {
	}
}
