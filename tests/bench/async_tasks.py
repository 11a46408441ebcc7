"""Lets so many asyncio tasks have one lock, each once, by filelock's AsyncFileLock.

Says "total NS VERSION", or "skip REASON".
"""

import asyncio
import sys
import time

from python_filelock import load


async def hold(lock):
    async with lock:
        pass


async def run(filelock, path, tasks):
    locks = [filelock.AsyncFileLock(path, is_singleton=False) for _ in range(tasks)]
    begun = time.monotonic_ns()
    await asyncio.gather(*(hold(lock) for lock in locks))
    print(f"total {time.monotonic_ns() - begun} {filelock.__version__}")


def main():
    try:
        filelock = load()
    except ImportError as error:
        print(f"skip {error}")
        return
    if not hasattr(filelock, "AsyncFileLock"):
        print(f"skip filelock {filelock.__version__} has no AsyncFileLock: 3.15 and later")
        return
    asyncio.run(run(filelock, sys.argv[1], int(sys.argv[2])))


main()
