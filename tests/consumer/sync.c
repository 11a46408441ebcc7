/* A program outside the tree: takes a lock, and sees another owner of it refused. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <filelock/filelock.h>

int main(int argc, char **argv)
{
	struct filelock *first = NULL, *second = NULL;
	const char *path = argc > 1 ? argv[1] : "consumer.lock";
	int r = filelock_open(path, FILELOCK_NATIVE, NULL, &first);

	if (r == 0)
		r = filelock_open(path, FILELOCK_NATIVE, NULL, &second);
	if (r == 0)
		r = filelock_acquire(first, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);
	if (r == 0 && filelock_acquire(second, FILELOCK_SHARED, 0) != -ETIMEDOUT)
		r = -EPROTO;
	if (r == 0)
		r = filelock_release(first);
	if (r != 0)
		fprintf(stderr, "sync: %s\n", filelock_strerror(r));
	else
		printf("sync %s\n", filelock_version());
	filelock_close(first);
	filelock_close(second);
	return r != 0;
}
