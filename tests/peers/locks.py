"""A peer for probe.c: Python's locks on one path. locks.py WAY PATH"""

import sys

way, path = sys.argv[1], sys.argv[2]


class Fcntl:
    """fcntl.flock or fcntl.lockf."""

    def __init__(self):
        import fcntl

        self.call = getattr(fcntl, way)
        self.nonblocking = fcntl.LOCK_EX | fcntl.LOCK_NB
        self.unlocking = fcntl.LOCK_UN

    def take(self):
        self.file = open(path, "a+b")
        self.call(self.file, self.nonblocking)

    def unlock(self):
        self.call(self.file, self.unlocking)

    def close(self):
        self.file.close()


class Portalocker:
    def take(self):
        import portalocker

        self.lock = portalocker.Lock(path, timeout=0, fail_when_locked=True)
        self.lock.acquire()

    def close(self):
        self.lock.release()


class Fasteners:
    def take(self):
        import fasteners

        self.lock = fasteners.InterProcessLock(path)
        if not self.lock.acquire(blocking=False):
            raise BlockingIOError("acquire() returns False")

    def close(self):
        self.lock.release()


class ZcLockfile:
    def take(self):
        import zc.lockfile

        self.lock = zc.lockfile.LockFile(path)

    def close(self):
        self.lock.close()


class Filelock:
    """FileLock and SoftFileLock of filelock."""

    def take(self):
        import filelock

        self.lock = getattr(filelock, way)(path)
        self.lock.acquire(timeout=0)

    def close(self):
        self.lock.release()


class ReadWrite:
    def __init__(self):
        import filelock

        self.lock = filelock.ReadWriteLock(path)

    def take(self):
        self.lock.acquire_write(0)

    def close(self):
        self.lock.release()


class Sqlite:
    """A transaction: rolled back on a connection that stays, or closed with it."""

    def take(self):
        import sqlite3

        self.db = sqlite3.connect(path, timeout=0, isolation_level=None)
        self.db.execute("begin exclusive")

    def unlock(self):
        self.db.execute("rollback")

    def close(self):
        self.db.close()


class Leveldb:
    """Its LOCK file in a folder of its own."""

    def take(self):
        import os

        import plyvel

        self.db = plyvel.DB(os.path.dirname(path), create_if_missing=True)

    def close(self):
        self.db.close()


class Lmdb:
    """lock.mdb, for one writer at a time; a transaction that waits would wait for ever."""

    def take(self):
        import os

        import lmdb

        self.db = lmdb.open(os.path.dirname(path))

    def close(self):
        self.db.close()


class Qt:
    """QLockFile: a marker that it also flocks, and breaks if its pid is gone, or by age."""

    def take(self):
        from PyQt5.QtCore import QLockFile

        self.lock = QLockFile(path)
        if not self.lock.tryLock(0):
            raise BlockingIOError("tryLock() returns false, error() %d" % self.lock.error())

    def close(self):
        self.lock.unlock()


class Nspr:
    """PR_TLockFile of the Netscape Portable Runtime."""

    RDWR, CREATE = 4, 8

    def __init__(self):
        import ctypes

        self.nspr = ctypes.CDLL("libnspr4.so")
        self.nspr.PR_Open.restype = ctypes.c_void_p
        self.pointer = ctypes.c_void_p

    def take(self):
        self.file = self.pointer(
            self.nspr.PR_Open(path.encode(), self.RDWR | self.CREATE, 0o644)
        )
        if self.nspr.PR_TLockFile(self.file) != 0:
            raise BlockingIOError("PR_TLockFile() fails, error %d" % self.nspr.PR_GetError())

    def unlock(self):
        self.nspr.PR_UnlockFile(self.file)

    def close(self):
        self.nspr.PR_Close(self.file)


WAYS = {
    "flock": Fcntl,
    "lockf": Fcntl,
    "portalocker": Portalocker,
    "fasteners": Fasteners,
    "zc.lockfile": ZcLockfile,
    "FileLock": Filelock,
    "SoftFileLock": Filelock,
    "ReadWriteLock": ReadWrite,
    "sqlite3": Sqlite,
    "leveldb": Leveldb,
    "lmdb": Lmdb,
    "QLockFile": Qt,
    "nspr": Nspr,
}


def obey(peer, order):
    if order == "take":
        try:
            peer.take()
        except Exception as error:
            words = str(error).split("\n", maxsplit=1)[0].replace(path, "PATH")
            return "busy %s: %s" % (type(error).__name__, words)
        return "held"
    if not hasattr(peer, order):
        return "cannot"
    getattr(peer, order)()
    return "done"


def main():
    peer = WAYS[way]()
    for line in sys.stdin:
        print(obey(peer, line.strip()), flush=True)


main()
