/* waits.c - how long was waited: a histogram by powers of the fourth root of two. */
#include <math.h>

#include "storm.h"

void waits_add(struct histogram *histogram, int64_t wait)
{
	int bucket = wait > 0 ? (int)(4 * log2((double)wait)) : 0;

	if (bucket >= WAIT_BUCKETS)
		bucket = WAIT_BUCKETS - 1;
	histogram->buckets[bucket]++;
	if (wait > histogram->longest)
		histogram->longest = wait;
}

void waits_merge(struct histogram *into, const struct histogram *from)
{
	for (int i = 0; i < WAIT_BUCKETS; i++)
		into->buckets[i] += from->buckets[i];
	if (from->longest > into->longest)
		into->longest = from->longest;
}

double waits_bucket_end(int bucket)
{
	return exp2((bucket + 1) / 4.0);
}

unsigned long waits_count(const struct histogram *histogram)
{
	unsigned long count = 0;

	for (int i = 0; i < WAIT_BUCKETS; i++)
		count += histogram->buckets[i];
	return count;
}

int64_t waits_quantile(const struct histogram *histogram, double share)
{
	double wanted = share * (double)waits_count(histogram);
	double passed = 0;

	for (int i = 0; i < WAIT_BUCKETS; i++) {
		passed += (double)histogram->buckets[i];
		if (passed >= wanted && waits_bucket_end(i) < (double)histogram->longest)
			return (int64_t)waits_bucket_end(i);
	}
	return histogram->longest;
}
