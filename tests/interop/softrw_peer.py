"""A peer for test_softrw.c: Python's SoftReadWriteLock (4.0 and later) on one path, obeying standard input.

    softrw_peer.py PATH BOARD DURATION

    read SECONDS, write SECONDS   held | timeout
    release                       released
    generation                    the fencing token
    lost                          the reason, once a heartbeat has found the loss
    holders                       how many records there are
    storm ROUNDS                  done: reads and writes by turns

BOARD is a file with struct board of test_softrw.c. Each word has one writer.
"""

import mmap
import os
import re
import struct
import sys
import time


class Board:
    READERS, WRITERS, OVERLAPS, ENTRIES, THEIR_WRITER, THEIR_READERS = 4, 8, 12, 16, 20, 24

    def __init__(self, path):
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)

    def get(self, at):
        return struct.unpack_from("=I", self.map, at)[0]

    def put(self, at, value):
        struct.pack_into("=I", self.map, at, value)

    def add(self, at):
        self.put(at, self.get(at) + 1)

    def look(self, writing):
        if self.get(self.THEIR_WRITER) != 0 or (writing and self.get(self.THEIR_READERS) != 0):
            self.add(self.OVERLAPS)

    def stay(self, writing):
        mine = self.WRITERS if writing else self.READERS
        self.put(mine, 1)
        self.look(writing)
        time.sleep(0.0005)
        self.look(writing)
        self.put(mine, 0)
        self.add(self.ENTRIES)


class Peer:
    def __init__(self, path, duration):
        import filelock

        self.timeout = filelock.Timeout
        self.root = path + ".rw"
        self.lock = filelock.SoftReadWriteLock(
            path, is_singleton=False, heartbeat_interval=duration / 3, stale_threshold=duration,
            poll_interval=0.01)

    def acquire(self, writing, timeout):
        try:
            (self.lock.acquire_write if writing else self.lock.acquire_read)(timeout)
        except self.timeout:
            return "timeout"
        return "held"

    def storm(self, board, rounds):
        for number in range(rounds):
            writing = number % 2 == 0
            if self.acquire(writing, 100) != "held":
                return "timeout"
            board.stay(writing)
            self.lock.release()
        return "done"

    def lost(self):
        while self.lock.compromise is None:
            time.sleep(0.01)
        return self.lock.compromise.reason

    def obey(self, words, board):
        if words[0] in ("read", "write"):
            return self.acquire(words[0] == "write", float(words[1]))
        if words[0] == "generation":
            return str(self.lock.generation)
        if words[0] == "holders":
            return str(len(os.listdir(self.root + "/holders")))
        if words[0] == "lost":
            return self.lost()
        if words[0] == "storm":
            return self.storm(board, int(words[1]))
        self.lock.release()
        return "released"


def main():
    try:
        import filelock
    except ImportError as error:
        print("missing", error)
        return
    version = getattr(filelock, "__version__", "unknown")
    if not re.match("[4-9]|[1-9][0-9]", version):
        print("missing", version, "has another protocol, or none")
        return
    peer = Peer(sys.argv[1], float(sys.argv[3]))
    board = Board(sys.argv[2])
    print("ready", version, flush=True)
    for line in sys.stdin:
        print(peer.obey(line.split(), board), flush=True)


main()
