/* A peer for probe.c: apr_file_lock of the Apache Portable Runtime on one path. locks_apr PATH */
#include <stdio.h>
#include <string.h>

#include <apr_file_io.h>
#include <apr_general.h>

static void take(apr_pool_t *pool, const char *path, apr_file_t **ret_file)
{
	char words[128];
	apr_status_t status = apr_file_open(ret_file, path, APR_READ | APR_WRITE | APR_CREATE,
	                                    APR_OS_DEFAULT, pool);

	if (status == APR_SUCCESS)
		status = apr_file_lock(*ret_file, APR_FLOCK_EXCLUSIVE | APR_FLOCK_NONBLOCK);
	if (status == APR_SUCCESS)
		printf("held\n");
	else
		printf("busy %s\n", apr_strerror(status, words, sizeof(words)));
}

int main(int count, char **arguments)
{
	apr_file_t *file = NULL;
	apr_pool_t *pool;
	char line[64];

	if (count != 2 || apr_initialize() != APR_SUCCESS || apr_pool_create(&pool, NULL) != APR_SUCCESS)
		return 1;
	while (fgets(line, sizeof(line), stdin)) {
		if (strcmp(line, "take\n") == 0)
			take(pool, arguments[1], &file);
		else if (strcmp(line, "unlock\n") == 0)
			printf(apr_file_unlock(file) == APR_SUCCESS ? "done\n" : "failed\n");
		else
			printf(apr_file_close(file) == APR_SUCCESS ? "done\n" : "failed\n");
		(void)fflush(stdout);
	}
	apr_terminate();
	return 0;
}
