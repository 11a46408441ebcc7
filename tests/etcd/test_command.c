/* The command filelock with -k etcd, against the scripted gateway. */
#include "gateway.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

struct scene {
	struct loop loop;
	struct gateway *gateway;
};

/* A run of filelock. Its standard input is a pipe that the test closes, so that "cat" ends then. */
struct command {
	pid_t pid;
	int input;
	int status; /* as a shell has it; -1: it runs */
};

static const char *program(void)
{
	const char *path = getenv("FILELOCK_COMMAND");

	return path && access(path, X_OK) == 0 ? path : NULL;
}

static struct scene scene_new(void)
{
	struct scene scene = { .loop = loop_new() };

	scene.gateway = gateway_new(scene.loop.base);
	return scene;
}

static void scene_end(struct scene *scene)
{
	gateway_free(scene->gateway);
	loop_free(&scene->loop);
}

#define MOST_ARGUMENTS 24

static void become(const char *const *arguments, int input)
{
	int output = open(test_path("said"), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (output < 0 || dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0)
		_exit(126);
	/* as a shell would start it: nothing of the test is open */
	for (int fd = 3; fd < 1024; fd++)
		(void)close(fd);
	(void)execv(arguments[0], (char *const *)arguments);
	_exit(127);
}

/* filelock -k etcd --endpoints URL,URL and those arguments, NULL at their end. */
static struct command start(struct scene *scene, const char *const *more)
{
	const char *arguments[MOST_ARGUMENTS] = { program(), "-k", "etcd", "--endpoints" };
	struct command command = { .status = -1 };
	char urls[256];
	int ends[2];

	(void)test_folder(); /* made by the test itself */
	(void)snprintf(urls, sizeof(urls), "%s,%s", gateway_url(scene->gateway),
	               gateway_url(scene->gateway));
	arguments[4] = urls;
	for (unsigned i = 0; more[i]; i++) {
		ck_assert_uint_lt(5 + i + 1, MOST_ARGUMENTS);
		arguments[5 + i] = more[i];
	}
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	command.pid = fork();
	ck_assert_int_ge(command.pid, 0);
	if (command.pid == 0)
		become(arguments, ends[0]);
	ck_assert_int_eq(close(ends[0]), 0);
	command.input = ends[1];
	return command;
}

#define START(scene, ...) start(scene, (const char *const[]){ __VA_ARGS__, NULL })

static bool has_ended(struct command *command)
{
	int status;
	pid_t pid = command->status < 0 ? waitpid(command->pid, &status, WNOHANG) : 0;

	ck_assert_int_ge(pid, 0);
	if (pid > 0)
		command->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status)
		                                      : WEXITSTATUS(status);
	return command->status >= 0;
}

static void end_input(struct command *command)
{
	ck_assert_int_eq(close(command->input), 0);
	command->input = -1;
}

static int status_of(struct scene *scene, struct command *command)
{
	turn_until(&scene->loop, has_ended(command));
	if (command->input >= 0)
		end_input(command);
	return command->status;
}

static void expect_said(const char *words)
{
	char said[4096];

	test_read_file(test_path("said"), said, sizeof(said));
	ck_assert_msg(strstr(said, words), "\"%s\" is not in: %s", words, said);
}

static bool exists(const char *name)
{
	return access(test_path(name), F_OK) == 0;
}

static bool begin(struct scene *ret_scene)
{
	if (!program()) {
		test_skip("the command filelock was not built");
		return false;
	}
	*ret_scene = scene_new();
	return true;
}

START_TEST(test_command_runs_under_the_lock_and_leaves_nothing)
{
	struct scene scene;
	struct command command;

	if (!begin(&scene))
		return;
	command = START(&scene, "jobs/nightly", "sh", "-c", "touch \"$0\"; cat; exit 7",
	                test_path("runs"));
	turn_until(&scene.loop, exists("runs"));
	ck_assert_uint_eq(gateway_keys(scene.gateway), 1);
	end_input(&command);
	ck_assert_int_eq(status_of(&scene, &command), 7);
	ck_assert_uint_eq(gateway_keys(scene.gateway), 0);
	ck_assert_uint_eq(gateway_leases(scene.gateway), 0);
	scene_end(&scene);
}
END_TEST

START_TEST(test_next_one_runs_when_the_command_before_has_ended)
{
	struct scene scene;
	struct command first, next;

	if (!begin(&scene))
		return;
	first = START(&scene, "a", "cat");
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 1);
	next = START(&scene, "a", "touch", test_path("ran"));
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 2);
	ck_assert(!exists("ran"));
	end_input(&first);
	ck_assert_int_eq(status_of(&scene, &first), 0);
	ck_assert_int_eq(status_of(&scene, &next), 0);
	ck_assert(exists("ran"));
	ck_assert_uint_eq(gateway_keys(scene.gateway), 0);
	scene_end(&scene);
}
END_TEST

START_TEST(test_lock_that_is_held_ends_the_wait_with_the_status_of_flock)
{
	struct scene scene;
	struct command holder, other;

	if (!begin(&scene))
		return;
	holder = START(&scene, "-s", "a", "sh", "-c", "touch \"$0\"; cat", test_path("runs"));
	turn_until(&scene.loop, exists("runs"));
	other = START(&scene, "-n", "a", "touch", test_path("ran"));
	ck_assert_int_eq(status_of(&scene, &other), 1);
	other = START(&scene, "-w", "0.01", "-E", "9", "a", "touch", test_path("ran"));
	ck_assert_int_eq(status_of(&scene, &other), 9);
	ck_assert(!exists("ran"));
	other = START(&scene, "-n", "-s", "a", "touch", test_path("ran")); /* readers share */
	ck_assert_int_eq(status_of(&scene, &other), 0);
	ck_assert(exists("ran"));
	other = START(&scene, "-n", "-a", "b", "c", "true");
	ck_assert_int_eq(status_of(&scene, &other), 0);
	ck_assert_uint_eq(gateway_keys(scene.gateway), 1);
	end_input(&holder);
	ck_assert_int_eq(status_of(&scene, &holder), 0);
	scene_end(&scene);
}
END_TEST

START_TEST(test_signal_ends_the_wait_and_its_key_goes)
{
	struct scene scene;
	struct command holder, waiter;

	if (!begin(&scene))
		return;
	holder = START(&scene, "a", "cat");
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 1);
	waiter = START(&scene, "a", "true");
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 2);
	ck_assert_int_eq(kill(waiter.pid, SIGTERM), 0);
	ck_assert_int_eq(status_of(&scene, &waiter), 128 + SIGTERM);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 1);
	end_input(&holder);
	ck_assert_int_eq(status_of(&scene, &holder), 0);
	scene_end(&scene);
}
END_TEST

START_TEST(test_command_whose_lock_is_lost_is_ended)
{
	struct scene scene;
	struct command command;

	if (!begin(&scene))
		return;
	/* its watch is there, so that it hears of the end of its lease */
	command = START(&scene, "a", "sh", "-c", "touch \"$0\"; exec cat", test_path("runs"));
	turn_until(&scene.loop, exists("runs") && gateway_watches(scene.gateway) > 0);
	gateway_end_leases(scene.gateway, true);
	ck_assert_int_eq(status_of(&scene, &command), 128 + SIGTERM);
	expect_said("etcd:a: ");
	expect_said("sent SIGTERM to the command");
	ck_assert_uint_eq(gateway_leases(scene.gateway), 0);
	scene_end(&scene);
}
END_TEST

START_TEST(test_command_inherits_no_connection)
{
	struct scene scene;
	struct command command;

	if (!begin(&scene))
		return;
	command = START(&scene, "a", "sh", "-c", "ls -l /proc/self/fd; ls -l /proc/self/fd | grep -q socket: && exit 1; exit 0");
	ck_assert_int_eq(status_of(&scene, &command), 0);
	expect_said("/said");
	scene_end(&scene);
}
END_TEST

START_TEST(test_refusal_of_etcd_is_said_with_what_to_do)
{
	struct scene scene;
	struct command command;

	if (!begin(&scene))
		return;
	gateway_answer_all(scene.gateway, 404, "404 page not found");
	command = START(&scene, "a", "touch", test_path("ran"));
	ck_assert_int_eq(status_of(&scene, &command), 66);
	expect_said("enable-grpc-gateway");
	ck_assert(!exists("ran"));
	scene_end(&scene);
}
END_TEST

/* A fault that passes makes no difference but one of time. */
START_TEST(test_server_that_fails_for_a_while_is_waited_for)
{
	struct scene scene;
	struct command command;
	unsigned calls;

	if (!begin(&scene))
		return;
	gateway_fault_all(scene.gateway, WAY_503);
	command = START(&scene, "a", "true");
	calls = gateway_calls(scene.gateway);
	turn_until(&scene.loop, gateway_calls(scene.gateway) >= calls + 3);
	ck_assert(!has_ended(&command));
	gateway_fault_all(scene.gateway, WAY_NONE);
	ck_assert_int_eq(status_of(&scene, &command), 0);
	ck_assert_uint_eq(gateway_keys(scene.gateway), 0);
	scene_end(&scene);
}
END_TEST

START_TEST(test_wrong_use_is_refused_before_anything_runs)
{
	struct scene scene;
	struct command command;

	if (!begin(&scene))
		return;
#define REFUSED(words, ...)                                                        \
	command = START(&scene, __VA_ARGS__);                                      \
	ck_assert_int_eq(status_of(&scene, &command), 64);                         \
	expect_said(words);
	REFUSED("servers of -k etcd", "-k", "native", "a", "true")
	REFUSED("ftp://nowhere", "--endpoints", "ftp://nowhere", "a", "true")
	REFUSED("etcdctl get --prefix", "--holder", "a")
	REFUSED("etcdctl get --prefix", "--break", "a")
	REFUSED("exec(2)", "-F", "a", "true")
	REFUSED("no empty part", "a//b", "true")
#undef REFUSED
	ck_assert_uint_eq(gateway_keys(scene.gateway), 0);
	scene_end(&scene);
}
END_TEST

int main(void)
{
	return support_main(SUITE("etcd_command",
	                          test_command_runs_under_the_lock_and_leaves_nothing,
	                          test_next_one_runs_when_the_command_before_has_ended,
	                          test_lock_that_is_held_ends_the_wait_with_the_status_of_flock,
	                          test_signal_ends_the_wait_and_its_key_goes,
	                          test_command_whose_lock_is_lost_is_ended,
	                          test_command_inherits_no_connection,
	                          test_refusal_of_etcd_is_said_with_what_to_do,
	                          test_server_that_fails_for_a_while_is_waited_for,
	                          test_wrong_use_is_refused_before_anything_runs));
}
