/*
 * quickstart.c - take a lock, do something that only one process may do, give it back.
 *
 *	cc quickstart.c -o quickstart $(pkg-config --cflags --libs filelock)
 *	./quickstart [LOCK FILE]
 */
#include <stdio.h>

#include <filelock/filelock.h>

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "quickstart.lock";
	struct filelock *lock;
	int r = filelock_open(path, FILELOCK_NATIVE, NULL, &lock);

	if (r < 0) {
		fprintf(stderr, "%s\n", filelock_last_error(NULL));
		return 1;
	}
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, 5000); /* waits 5 s at most */
	if (r == 0) {
		printf("%s is ours\n", filelock_path(lock));
		r = filelock_release(lock);
	}
	if (r < 0)
		fprintf(stderr, "%s\n", filelock_last_error(lock));
	filelock_close(lock);
	return r < 0;
}
