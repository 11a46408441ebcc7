"""A peer for test_readwrite.c: many readers or one writer on a database, obeying standard input.

    readwrite_peer.py WAY PATH WITNESS

WAY is "sqlite3", transactions of the module on a connection that stays open, or "filelock".

    read SECONDS        held | timeout
    write SECONDS       held | timeout
    release             released
    read_on             done: holds 20 ms at a time, until the first byte of WITNESS is not 0
    storm ROUNDS WHO    done: as a writer

After its first byte's word WITNESS has struct witness of support.h.
"""

import mmap
import sqlite3
import struct
import sys
import time
import types


class Transactions:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        # as filelock does: no journal is left beside the database if we are killed
        self.db.execute("pragma journal_mode=memory")

    def begin(self, timeout, *statements):
        self.db.execute("pragma busy_timeout=%d" % int(timeout * 1000))
        try:
            for statement in statements:
                self.db.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            if self.db.in_transaction:
                self.db.execute("rollback")
            return False
        return True

    def read(self, timeout):
        return self.begin(timeout, "begin", "select name from sqlite_master")

    def write(self, timeout):
        return self.begin(timeout, "begin exclusive")

    def release(self):
        self.db.execute("rollback")


class Locks:
    def __init__(self, path):
        try:
            import filelock
        except ModuleNotFoundError as error:
            if error.name != "filelock.version":
                raise
            # a source folder lacks the module that its build writes
            version = types.ModuleType("filelock.version")
            version.version = version.__version__ = "from source"
            sys.modules["filelock.version"] = version
            import filelock
        self.timeout = filelock.Timeout
        self.lock = filelock.ReadWriteLock(path)

    def acquire(self, acquire, timeout):
        try:
            acquire(timeout)
        except self.timeout:
            return False
        return True

    def read(self, timeout):
        return self.acquire(self.lock.acquire_read, timeout)

    def write(self, timeout):
        return self.acquire(self.lock.acquire_write, timeout)

    def release(self):
        self.lock.release()


class Witness:
    STOP, INSIDE, READERS, OVERLAPS, ENTRIES = 0, 4, 8, 12, 16

    def __init__(self, path):
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)

    def get(self, at):
        return struct.unpack_from("=I", self.map, at)[0]

    def put(self, at, value):
        struct.pack_into("=I", self.map, at, value)

    def add(self, at):
        self.put(at, self.get(at) + 1)

    def enter(self, who):
        if self.get(self.INSIDE) != 0 or self.get(self.READERS) != 0:
            self.add(self.OVERLAPS)
        self.put(self.INSIDE, who)
        self.add(self.ENTRIES)

    def leave(self, who):
        if self.get(self.INSIDE) != who or self.get(self.READERS) != 0:
            self.add(self.OVERLAPS)
        self.put(self.INSIDE, 0)


def read_on(peer, witness):
    while not witness.get(witness.STOP):
        if peer.read(60):
            time.sleep(0.02)
            peer.release()
    return "done"


def storm(peer, witness, rounds, who):
    for _ in range(rounds):
        if not peer.write(60):
            return "timeout"
        witness.enter(who)
        witness.leave(who)
        peer.release()
    return "done"


def obey(words, peer, witness):
    if words[0] == "read":
        return "held" if peer.read(float(words[1])) else "timeout"
    if words[0] == "write":
        return "held" if peer.write(float(words[1])) else "timeout"
    if words[0] == "read_on":
        return read_on(peer, witness)
    if words[0] == "storm":
        return storm(peer, witness, int(words[1]), int(words[2]))
    peer.release()
    return "released"


def main():
    way = {"sqlite3": Transactions, "filelock": Locks}[sys.argv[1]]
    try:
        peer = way(sys.argv[2])
    except (ImportError, AttributeError) as error:
        print("missing", error)
        return
    witness = Witness(sys.argv[3])
    print("ready", flush=True)
    for line in sys.stdin:
        print(obey(line.split(), peer, witness), flush=True)


main()
