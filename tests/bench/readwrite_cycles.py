"""How long filelock's ReadWriteLock takes to acquire and release: readwrite_cycles.py PATH ROUNDS [CLASS]

Says "skip REASON", or a line "NAME MICROSECONDS" for each of shared, exclusive, async-shared and
async-exclusive: the median of 10 batches. A name is missing if the package has no such lock.
"""

import asyncio
import statistics
import sys
import time

from python_filelock import load

BATCHES = 10


def say(name, batches, rounds):
    print(name, statistics.median(batches) / rounds / 1e3, flush=True)


def cycles(name, acquire, release, rounds):
    batches = []
    for _ in range(BATCHES):
        begun = time.monotonic_ns()
        for _ in range(rounds):
            acquire()
            release()
        batches.append(time.monotonic_ns() - begun)
    say(name, batches, rounds)


async def async_cycles(name, acquire, release, rounds):
    batches = []
    for _ in range(BATCHES):
        begun = time.monotonic_ns()
        for _ in range(rounds):
            await acquire()
            await release()
        batches.append(time.monotonic_ns() - begun)
    say(name, batches, rounds)


async def measure_async(kind, path, rounds):
    lock = kind(path)
    await async_cycles("async-shared", lock.acquire_read, lock.release, rounds)
    await async_cycles("async-exclusive", lock.acquire_write, lock.release, rounds)
    await lock.close()


def main():
    path, rounds = sys.argv[1], int(sys.argv[2])
    try:
        filelock = load()
        name = sys.argv[3] if len(sys.argv) > 3 else "ReadWriteLock"
        lock = getattr(filelock, name)(path)
        if name == "SoftReadWriteLock" and not hasattr(type(lock), "generation"):
            raise ImportError("its SoftReadWriteLock has an older protocol")
    except (ImportError, AttributeError) as error:
        print(f"skip {error}")
        return
    cycles("shared", lock.acquire_read, lock.release, rounds)
    cycles("exclusive", lock.acquire_write, lock.release, rounds)
    if hasattr(filelock, "Async" + name):
        asyncio.run(measure_async(getattr(filelock, "Async" + name), path, rounds))


main()
