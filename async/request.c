/*
 * request.c - every transition of a request, its queue and its grant.
 *
 *	        enlist                    grant                callback
 *	NEW ──────────> QUEUED, NESTING ─────────> GRANTED ─────────────> HELD ─> ENDED
 *	  │                │ cancel                  │ the hold ends         when the hold ends
 *	  │                v                         v meanwhile
 *	  │            CANCELLED ────────────────> TOLD ─> ENDED
 *	  │  release                                 ^
 *	  └─────────> DELEGATED ─> KNOWN ────────────┘
 *
 * request_answer answers every request, exactly once. A request that a callback begins carries the
 * number of a turn that must not answer it.
 *
 * A granted request becomes a grant: the handle's listener (driver_private.h) until the hold ends. A
 * release on the loop's thread first asks whether the next request of the queue gets the hold: the
 * cohort hand-over. Its one system call is a look whether the path still names the file, as after
 * each lock that is taken. It is bounded in number and in time, so that other processes get their
 * turn. Other threads may release, too: they post the grant to the mailbox. A grant ends once:
 * whoever ends it gives it to the loop's thread, or frees it if the context is gone.
 *
 * While the queue's own grants keep its first request out, that request makes no attempt. It is
 * blocked until the last of them ends, here or on another thread, and has neither descriptor nor
 * watch. With the option lifetime_ms it waits for the lock as for anybody's.
 */
#include "request.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "job.h"
#include "keep.h"
#include "warm.h"

#define TO(state) (1u << REQUEST_##state)

static void move(struct request *request, enum request_state to)
{
	static const unsigned short allowed[] __attribute__((unused)) = {
		[REQUEST_NEW] = TO(QUEUED) | TO(NESTING) | TO(DELEGATED) | TO(KNOWN) | TO(ENDED),
		[REQUEST_QUEUED] = TO(GRANTED) | TO(TOLD) | TO(CANCELLED) | TO(ENDED),
		[REQUEST_NESTING] = TO(QUEUED) | TO(NESTING) | TO(TOLD) | TO(CANCELLED) | TO(ENDED),
		[REQUEST_CANCELLED] = TO(TOLD) | TO(ENDED),
		[REQUEST_DELEGATED] = TO(KNOWN) | TO(TOLD) | TO(ENDED),
		[REQUEST_KNOWN] = TO(TOLD) | TO(ENDED),
		[REQUEST_GRANTED] = TO(HELD) | TO(TOLD),
		[REQUEST_HELD] = TO(ENDED),
		[REQUEST_TOLD] = TO(ENDED),
	};

	assert(allowed[request->state] >> to & 1);
	(void)allowed;
	request->state = (unsigned char)to;
}

/* --- what the handles say --- */

static void on_woken(struct filelock *lock, void *arg)
{
	const struct request *request = arg;
	struct queue *queue = request->queue;

	(void)lock;
	if (!queue)
		return;
	if (queue->state != QUEUE_READY && !queue->again)
		stats_woken(&request->ev->stats, queue, true);
	queue_make_ready(queue);
	context_arm_surely(queue->ev); /* unless a turn follows: a kind of lock has called */
}

static void on_closing(struct filelock *lock, void *arg)
{
	struct request *request = arg;

	(void)lock;
	if (request_cancel(request))
		context_arm_surely(request->ev);
}

static bool on_out_of_fds(struct filelock *lock, void *arg)
{
	struct request *request = arg;

	if (warm_drop_all(request->ev))
		return true;
	if (!fd_budget_make_room(&request->ev->fds, request->ev->now))
		return false;
	filelock_set_poll_only(lock, true);
	return true;
}

void request_init_driver(struct evfilelock *ev)
{
	ev->driver = (struct filelock_driver){ ev->watcher, on_woken, on_closing, on_out_of_fds };
}

/* --- a request comes --- */

struct request *request_new(struct evfilelock *ev, struct filelock *lock, enum filelock_mode mode,
                            evfilelock_cb cb, void *arg)
{
	struct request *request = calloc(1, sizeof(*request));

	if (!request)
		return NULL;
	if (timers_reserve(&ev->timers) < 0) {
		free(request);
		return NULL;
	}
	request->ev = ev;
	request->lock = lock;
	request->mode = (unsigned char)mode;
	request->cb = cb;
	request->arg = arg;
	request->born = ev->next_born;
	return request;
}

static void request_free(struct request *request)
{
	move(request, REQUEST_ENDED);
	if (request->mailbox)
		mailbox_unref(request->mailbox);
	filelock_unref(request->lock);
	free(request->room);
	free(request);
}

void *request_add_room(struct request *request, size_t size)
{
	request->room = request->arg = calloc(1, size);
	return request->room;
}

void request_discard(struct request *request)
{
	timers_unreserve(&request->ev->timers);
	free(request->room);
	free(request);
}

int request_enlist(struct request *request, int64_t now)
{
	struct evfilelock *ev = request->ev;
	struct queue *queue;

	if (filelock_depth(request->lock) > 0) {
		move(request, REQUEST_NESTING);
		list_add_last(&ev->prompt, &request->link);
		return 0;
	}
	queue = queue_get(&ev->queues, request->lock, ev, ev->turn);
	if (!queue)
		return -ENOMEM;
	move(request, REQUEST_QUEUED);
	queue_add(queue, request);
	stats_queued(&ev->stats, queue);
	if (request->expires != FILELOCK_NEVER)
		timers_set(&ev->timers, &request->deadline, request->expires, now);
	return 0;
}

void request_unlist(struct request *request)
{
	if (request->queue)
		request_leave(request);
	else
		list_remove(&request->link);
	timers_unset(&request->ev->timers, &request->deadline);
}

void request_delegate(struct request *request)
{
	move(request, REQUEST_DELEGATED);
	list_add_last(&request->ev->errands, &request->link);
	request->ev->awaited++;
}

void request_know(struct request *request, int result)
{
	struct evfilelock *ev = request->ev;

	if (request->state == REQUEST_DELEGATED) {
		list_remove(&request->link);
		ev->awaited--;
	}
	move(request, REQUEST_KNOWN);
	request->result = result;
	list_add_last(&ev->prompt, &request->link);
}

/* --- a request goes --- */

void request_leave(struct request *request)
{
	struct queue *queue = request->queue;
	struct evfilelock *ev = request->ev;
	bool was_first = queue_first(queue) == request;
	const struct request *next = queue_next(queue, request);

	job_abandon(request);
	queue_remove(queue, request);
	request->queue = NULL;
	if (was_first) {
		queue->handed_over = next && filelock_depth(next->lock) > 0;
		fd_budget_remove(&ev->fds, queue);
		/* the next one steps from the start */
		timers_unset(&ev->timers, &queue->poll);
		if (queue->state != QUEUE_SERVED)
			queue_make_ready(queue);
	}
	queue_free_if_unused(queue);
}

void request_answer(struct request *request, int result)
{
	struct evfilelock *ev = request->ev;

	if (ev->left > 0)
		ev->left--;
	if (request->state != REQUEST_GRANTED) {
		timers_unset(&ev->timers, &request->deadline);
		move(request, REQUEST_TOLD);
	}
	if (!request->is_errand)
		stats_answered(&ev->stats, request, result, ev->now);
	/* from here on the handle is the user's, who may give it to another thread */
	request->cb(request->lock, result, request->arg);
	(void)context_check(ev);
	if (request->state == REQUEST_GRANTED) {
		move(request, REQUEST_HELD);
		return;
	}
	timers_unreserve(&ev->timers);
	request_free(request);
}

void request_end(struct request *request, int result)
{
	request_leave(request);
	request_answer(request, filelock_give_up(request->lock, result));
}

void request_drop(struct request *request)
{
	timers_unset(&request->ev->timers, &request->deadline);
	timers_unreserve(&request->ev->timers);
	request_free(request);
}

/* A hold that was handed over to it goes on to the next, or back to the system. */
static void give_hold_on(struct request *request)
{
	struct request *next = queue_next(request->queue, request);

	if (filelock_depth(request->lock) > 0 && !(next && request_hand_over(request, next)))
		(void)filelock_release_all(request->lock);
}

bool request_cancel(struct request *request)
{
	if (request->state != REQUEST_QUEUED && request->state != REQUEST_NESTING)
		return false;
	request->result = -ECANCELED;
	if (request->state == REQUEST_QUEUED) {
		give_hold_on(request);
		/* the handle's acquisition stays pending until it is told: nobody else may begin one */
		request_leave(request);
		timers_unset(&request->ev->timers, &request->deadline);
		list_add_last(&request->ev->prompt, &request->link);
	}
	move(request, REQUEST_CANCELLED);
	return true;
}

/* --- grants --- */

static bool may_hand_over(const struct queue *queue)
{
	return queue->handovers + 1 < queue->ev->handover_max &&
	       filelock_now() - queue->taken_at < queue->ev->handover_time;
}

static bool on_wanted(struct filelock *lock, void *arg)
{
	const struct request *grant = arg;

	(void)lock;
	return mailbox_is_loop_thread(grant->mailbox) && grant->queue && !grant->ev->freeing &&
	       queue_first(grant->queue) && may_hand_over(grant->queue);
}

static bool on_take(struct filelock *lock, void *arg)
{
	struct request *grant = arg;

	(void)lock;
	return request_hand_over(grant, queue_first(grant->queue));
}

static void take_mail(struct mail *mail, bool gone)
{
	struct request *grant = list_entry(mail, struct request, mail);

	if (gone)
		request_free(grant);
	else
		request_settle(grant, NULL);
}

static void on_ended(struct filelock *lock, void *arg)
{
	struct request *grant = arg;

	if (filelock_is_inherited(lock)) {
		if (grant->queue)
			(void)context_check(grant->ev);
		request_settle(grant, lock);
	} else if (mailbox_is_loop_thread(grant->mailbox)) {
		request_settle(grant, lock);
	} else {
		grant->since = filelock_now();
		if (!mailbox_post(grant->mailbox, &grant->mail))
			request_free(grant);
	}
}

static bool on_released(struct filelock *lock, void *arg)
{
	const struct request *grant = arg;

	return mailbox_is_loop_thread(grant->mailbox) && grant->queue &&
	       warm_is_worth_it(grant->queue, lock);
}

void request_grant(struct request *request)
{
	static const struct filelock_listener listener = { on_wanted, on_take, on_ended,
		                                            on_released };
	struct evfilelock *ev = request->ev;
	struct queue *queue = request->queue;

	if (!queue->handed_over) {
		queue->taken_at = ev->now;
		queue->handovers = 0;
	}
	queue->handed_over = false;
	job_abandon(request); /* it may have been handed a hold meanwhile */
	fd_budget_remove(&ev->fds, queue);
	timers_unset(&ev->timers, &queue->poll);
	queue_remove(queue, request);
	stats_held(&ev->stats);
	move(request, REQUEST_GRANTED);
	keep_begin(request);
	list_add_last(&queue->grants, &request->link);
	request->mail = (struct mail){ .take = take_mail, .ends_hold = true };
	request->mailbox = ev->mailbox;
	mailbox_ref(request->mailbox);
	filelock_set_listener(request->lock, &listener, request);
}

bool request_hand_over(struct request *from, struct request *to)
{
	struct queue *queue = to->queue;

	if (!filelock_hand_over(from->lock, to->lock))
		return false;
	queue->handed_over = true;
	queue->handovers++;
	return true;
}

static void leave_grants(struct request *grant, struct filelock *lock)
{
	struct queue *queue = grant->queue;
	struct evfilelock *ev = grant->ev;
	const struct request *first = queue_first(queue);
	bool is_armed = true;

	if (!ev->inherited)
		stats_released(&ev->stats, grant, lock ? 0 : grant->since);
	list_remove(&grant->link);
	grant->queue = NULL;
	keep_end(grant);
	if (lock && !ev->inherited)
		is_armed = !warm_put(queue, lock);
	if (first && lock)
		filelock_follow(first->lock, lock);
	/* also one that is not blocked, and waits for others, does not hear of being handed it */
	if ((queue->state == QUEUE_BLOCKED ||
	     (queue->handed_over && queue->state != QUEUE_SERVED)) &&
	    !queue_waits_for_itself(queue)) {
		queue_make_ready(queue);
		context_arm_surely(ev);
	}
	queue_free_if_unused(queue);
	if (!is_armed)
		context_arm_surely(ev);
}

void request_settle(struct request *grant, struct filelock *lock)
{
	struct evfilelock *ev = grant->queue ? grant->ev : NULL; /* NULL: it was freed */

	if (ev)
		leave_grants(grant, lock);
	if (grant->state == REQUEST_GRANTED) {
		move(grant, REQUEST_TOLD); /* freed when its callback returns */
		return;
	}
	if (ev)
		timers_unreserve(&ev->timers);
	request_free(grant);
}

bool request_may_block(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;
	int64_t slow = stats_slow_due(&ev->stats, queue);

	if (!context_hear(ev))
		return false;
	timers_unset(&ev->timers, &queue->poll);
	if (slow != FILELOCK_NEVER)
		timers_set(&ev->timers, &queue->poll, slow, ev->now);
	return true;
}

void request_orphan_grants(struct queue *queue)
{
	struct list *link;

	while ((link = list_take_first(&queue->grants))) {
		keep_end(request_at(link));
		request_at(link)->queue = NULL;
	}
	queue->orphan = NULL;
	if (queue->state == QUEUE_SERVED)
		queue_end_service(queue, QUEUE_EMPTY);
	else
		queue_free_if_unused(queue);
}
