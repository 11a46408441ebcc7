#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "support.h"

static void become(int in, int out, const char *const *arguments)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
		_exit(126);
	(void)execvp(arguments[0], (char *const *)arguments);
	_exit(127);
}

void program_start(struct program *program, const char *const *arguments)
{
	int in[2], out[2];

	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	program->pid = fork();
	ck_assert_int_ge(program->pid, 0);
	if (program->pid == 0)
		become(in[0], out[1], arguments);
	close(in[0]);
	close(out[1]);
	program->in = in[1];
	program->out = out[0];
}

void program_say(struct program *program, const char *line)
{
	char text[512];
	int length = snprintf(text, sizeof(text), "%s\n", line);

	ck_assert_int_lt(length, (int)sizeof(text));
	ck_assert_int_eq(write(program->in, text, (size_t)length), length);
}

bool program_read(struct program *program, char *line, size_t size)
{
	size_t length = 0;
	ssize_t n = 1;

	while (length < size - 1) {
		n = read(program->out, line + length, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || line[length] == '\n')
			break;
		length++;
	}
	line[length] = '\0';
	return n > 0;
}

void program_expect(struct program *program, const char *line)
{
	char text[512];

	(void)program_read(program, text, sizeof(text));
	ck_assert_str_eq(text, line);
}

int program_end(struct program *program)
{
	char rest[512];
	ssize_t n;

	close(program->in);
	do
		n = read(program->out, rest, sizeof(rest));
	while (n > 0 || (n < 0 && errno == EINTR));
	close(program->out);
	return test_reap(program->pid);
}

int program_run(const char *const *arguments)
{
	struct program program;

	program_start(&program, arguments);
	return program_end(&program);
}
