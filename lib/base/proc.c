#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "base/sys.h"

static void skip_spaces(const char **text)
{
	while (**text == ' ' || **text == '\t')
		(*text)++;
}

/* Steps over a word and the spaces after it; false if another word stands there. */
static bool take_word(const char **text, const char *word)
{
	size_t length = strlen(word);

	if (strncmp(*text, word, length) != 0)
		return false;
	*text += length;
	if (**text != ' ' && **text != '\t')
		return false;
	skip_spaces(text);
	return true;
}

static bool skip_word(const char **text)
{
	const char *start = *text;

	*text += strcspn(*text, " \t\n");
	if (*text == start)
		return false;
	skip_spaces(text);
	return true;
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
}

/* strtoull(3) would take signs and spaces, and let a number that is too large pass. */
static bool take_number(const char **text, unsigned base, uint64_t most, uint64_t *ret)
{
	const char *p = *text;
	uint64_t value = 0;

	for (; digit_value(*p) < (int)base; p++) {
		uint64_t digit = (uint64_t)digit_value(*p);

		if (value > (most - digit) / base)
			return false;
		value = value * base + digit;
	}
	if (p == *text)
		return false;
	*text = p;
	*ret = value;
	return true;
}

static bool take_char(const char **text, char c)
{
	if (**text != c)
		return false;
	(*text)++;
	return true;
}

static bool take_device(const char **text, unsigned base, struct proc_device *ret)
{
	uint64_t major, minor;

	if (!take_number(text, base, UINT_MAX, &major) || !take_char(text, ':') ||
	    !take_number(text, base, UINT_MAX, &minor))
		return false;
	*ret = (struct proc_device){ (unsigned)major, (unsigned)minor };
	return true;
}

/* A pid of 0 or below is a holder that has none in this PID namespace. */
static bool take_pid(const char **text, pid_t *ret)
{
	bool negative = take_char(text, '-');
	uint64_t number;

	if (!take_number(text, 10, INT_MAX, &number))
		return false;
	*ret = negative ? 0 : (pid_t)number;
	skip_spaces(text);
	return true;
}

static bool take_mode(const char **text, enum filelock_mode *ret)
{
	bool shared = take_word(text, "READ");

	if (!shared && !take_word(text, "WRITE"))
		return false;
	*ret = shared ? FILELOCK_SHARED : FILELOCK_EXCLUSIVE;
	return true;
}

/* The line up to its inode; after it *line stands at the range. */
static bool take_lock(const char **line, const char *type, struct proc_lock *ret)
{
	uint64_t number;

	skip_spaces(line);
	if (!take_number(line, 10, UINT64_MAX, &number) || !take_char(line, ':'))
		return false;
	skip_spaces(line);
	/* "-> FLOCK" is a waiter; the word after the type says ADVISORY, always */
	return take_word(line, type) && skip_word(line) && take_mode(line, &ret->mode) &&
	       take_pid(line, &ret->pid) && take_device(line, 16, &ret->device) &&
	       take_char(line, ':') && take_number(line, 10, UINT64_MAX, &ret->inode);
}

bool proc_parse_lock(const char *line, struct proc_lock *ret)
{
	struct proc_lock lock = { 0 };

	if (!take_lock(&line, "FLOCK", &lock))
		return false;
	*ret = lock;
	return true;
}

static bool parse_record(const char *line, const char *type, struct proc_record *ret)
{
	struct proc_record record = { .last = UINT64_MAX };

	if (!take_lock(&line, type, &record.lock) || !take_char(&line, ' ') ||
	    !take_number(&line, 10, UINT64_MAX, &record.first) || !take_char(&line, ' '))
		return false;
	if (strncmp(line, "EOF", 3) != 0 &&
	    !take_number(&line, 10, UINT64_MAX, &record.last))
		return false;
	*ret = record;
	return true;
}

bool proc_parse_record(const char *line, struct proc_record *ret)
{
	return parse_record(line, "POSIX", ret);
}

bool proc_parse_any_record(const char *line, struct proc_record *ret)
{
	return proc_parse_record(line, ret) || parse_record(line, "OFDLCK", ret);
}

bool proc_parse_mount(const char *line, uint64_t *ret_id, struct proc_device *ret_device)
{
	struct proc_device device;
	uint64_t id, parent;

	if (!take_number(&line, 10, UINT64_MAX, &id) || !take_char(&line, ' ') ||
	    !take_number(&line, 10, UINT64_MAX, &parent) || !take_char(&line, ' ') ||
	    !take_device(&line, 10, &device) || *line != ' ')
		return false;
	*ret_id = id;
	*ret_device = device;
	return true;
}

bool proc_parse_fdinfo(const char *text, const char *name, uint64_t *ret)
{
	size_t length = strlen(name);

	while (*text) {
		if (strncmp(text, name, length) == 0 && text[length] == ':') {
			text += length + 1;
			skip_spaces(&text);
			return take_number(&text, 10, UINT64_MAX, ret);
		}
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	return false;
}

bool proc_parse_process(const char *text, struct proc_process *ret)
{
	/* the command's name may hold spaces and parentheses itself */
	const char *p = strrchr(text, ')');
	struct proc_process process = { 0 };

	if (!p || p[1] != ' ' || p[2] == '\0' || p[3] != ' ')
		return false;
	process.state = p[2];
	p += 4;
	for (int field = 4; field < 20; field++)
		if (!skip_word(&p))
			return false;
	if (!take_number(&p, 10, UINT64_MAX, &process.threads) || !take_char(&p, ' ') ||
	    !skip_word(&p) || !take_number(&p, 10, UINT64_MAX, &process.start))
		return false;
	*ret = process;
	return true;
}

bool proc_parse_innermost_pid(const char *text, pid_t *ret_pid, unsigned *ret_depth)
{
	const char *line = strncmp(text, "NSpid:", 6) == 0 ? text : strstr(text, "\nNSpid:");
	unsigned depth = 0;
	uint64_t pid;

	if (!line)
		return false;
	line = strchr(line, ':') + 1;
	skip_spaces(&line);
	while (take_number(&line, 10, INT_MAX, &pid)) {
		depth++;
		skip_spaces(&line);
	}
	if (depth == 0 || *line != '\n')
		return false;
	*ret_pid = (pid_t)pid;
	*ret_depth = depth;
	return true;
}

bool proc_parse_boot_time(const char *line, int64_t *ret)
{
	uint64_t seconds;

	/* half the range, so that adding to it cannot overflow */
	if (!take_word(&line, "btime") || !take_number(&line, 10, INT64_MAX / 2, &seconds))
		return false;
	*ret = (int64_t)seconds;
	return true;
}

int proc_lines_open(struct proc_lines *lines, const char *path)
{
	int fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);

	lines->fd = fd;
	lines->begin = lines->end = lines->reads = 0;
	lines->last = lines->cut = false;
	return fd < 0 ? fd : 0;
}

void proc_lines_close(struct proc_lines *lines)
{
	(void)sys_close(lines->fd);
	lines->fd = -1;
}

static int fill(struct proc_lines *lines)
{
	size_t room;
	ssize_t n;

	memmove(lines->buffer, lines->buffer + lines->begin, lines->end - lines->begin);
	lines->end -= lines->begin;
	lines->begin = 0;
	room = sizeof(lines->buffer) - 1 - lines->end;
	do
		n = sys.read(lines->fd, lines->buffer + lines->end, room);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	lines->end += (size_t)n;
	lines->reads += n > 0;
	lines->last = n == 0;
	return 0;
}

/* Ends the line that begins the buffer after length bytes; NULL: it was a cut line's rest. */
static const char *take_line(struct proc_lines *lines, size_t length, bool ended)
{
	char *line = lines->buffer + lines->begin;
	bool rest = lines->cut;

	line[length] = '\0';
	lines->begin += length;
	lines->begin += lines->begin < lines->end; /* the newline */
	lines->cut = !ended;
	return rest ? NULL : line;
}

int proc_lines_next(struct proc_lines *lines, const char **ret_line)
{
	for (;;) {
		size_t length = lines->end - lines->begin;
		char *end = memchr(lines->buffer + lines->begin, '\n', length);
		const char *line;
		int r;

		if (!end && !lines->last && length < sizeof(lines->buffer) - 1) {
			r = fill(lines);
			if (r < 0)
				return r;
			continue;
		}
		if (!end && length == 0)
			return 0;
		if (end)
			length = (size_t)(end - (lines->buffer + lines->begin));
		line = take_line(lines, length, end || lines->last);
		if (line) {
			*ret_line = line;
			return 1;
		}
	}
}
