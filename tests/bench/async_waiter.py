"""Waits for a lock with filelock's AsyncFileLock, once for each line of input.

Says "ready VERSION" or "skip REASON" first; then, for each line, "begun" as it is about to ask
and, when it had the lock and has released it, "acquired NS", the time it had it on CLOCK_MONOTONIC.
"""

import asyncio
import sys
import time

from python_filelock import load


def say(text):
    print(text, flush=True)


async def wait(filelock, path):
    lock = filelock.AsyncFileLock(path)
    say(f"ready {filelock.__version__}")
    # Reading blocks the loop between the rounds, when nothing else has to run in it.
    for _ in sys.stdin:
        say("begun")
        await lock.acquire()
        acquired = time.monotonic_ns()
        await lock.release()
        say(f"acquired {acquired}")


def main():
    try:
        filelock = load()
    except ImportError as error:
        say(f"skip {error}")
        return
    if not hasattr(filelock, "AsyncFileLock"):
        say(f"skip filelock {filelock.__version__} has no AsyncFileLock: 3.15 and later")
        return
    asyncio.run(wait(filelock, sys.argv[1]))


main()
