/*
 * question.c - who holds a lock, asked on another thread: it reads /proc/locks, or a file that a dead
 * mount may have.
 *
 * A question is an errand: a request that acquires nothing. A worker asks with a handle of its own.
 */
#include "question.h"

#include <errno.h>
#include <stdlib.h>

#include "job.h"
#include "request.h"
#include "workers.h"

struct question {
	evfilelock_holder_cb cb;
	void *arg;
	struct filelock_owner owner;
};

static void tell(struct filelock *lock, int result, void *arg)
{
	struct question *question = arg;

	question->cb(lock, result, result == 0 ? &question->owner : NULL, question->arg);
}

static void collect(struct pool_job *base)
{
	struct job *job = list_entry(base, struct job, base);
	struct request *request = job->request;
	struct question *question;

	if (request) {
		question = request->arg;
		question->owner = job->owner;
		request->job = NULL;
		request_know(request, job->result);
	}
	job_submit(job, JOB_CLOSE);
}

int question_ask(struct evfilelock *ev, struct filelock *lock, evfilelock_holder_cb cb, void *arg)
{
	struct workers *workers;
	struct question *question;
	struct request *request;
	struct job *job;
	int r = workers_for_questions(ev, &workers);

	if (r < 0)
		return r;
	request = request_new(ev, lock, FILELOCK_EXCLUSIVE, tell, NULL);
	if (!request)
		return -ENOMEM;
	question = request_add_room(request, sizeof(*question));
	r = question && context_hear(ev) ? job_new(request, workers, collect, &job) : -ENOMEM;
	if (r < 0) {
		request_discard(request);
		context_arm_surely(ev); /* it need not hear for this */
		return r;
	}
	*question = (struct question){ .cb = cb, .arg = arg };
	request->is_errand = true;
	filelock_ref(lock);
	request_delegate(request);
	job_submit(job, JOB_ASK);
	return 0;
}
