"""How long a lock of filelock's takes to acquire and release: soft_cycles.py PATH ROUNDS [CLASS]

Says "skip REASON", or the median of 10 batches in microseconds.
"""

import statistics
import sys
import time

from python_filelock import load

BATCHES = 10


def main():
    try:
        lock = getattr(load(), sys.argv[3] if len(sys.argv) > 3 else "SoftFileLock")(sys.argv[1])
    except (ImportError, AttributeError) as error:
        print("skip", error)
        return
    rounds = int(sys.argv[2])
    batches = []
    for _ in range(BATCHES):
        begun = time.monotonic_ns()
        for _ in range(rounds):
            lock.acquire()
            lock.release()
        batches.append(time.monotonic_ns() - begun)
    print(statistics.median(batches) / rounds / 1e3)


main()
