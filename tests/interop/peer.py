"""A peer for the tests with Python here: its filelock on one path, obeying lines on standard input.

    peer.py PATH WITNESS [CLASS]

    acquire SECONDS     held | timeout | the name of another exception
    release             released
    holder              whom the marker names: pid, or none
    loss                why a lease was lost, or none
    storm ROUNDS WHO    done
    count FILE WHO ROUNDS  done | lost

FILELOCK_PEER_DURATION: the seconds of a lease. WITNESS is a file with struct witness of support.h: inside, readers, overlaps, entries.
"""

import array
import mmap
import os
import struct
import sys
import types


def load():
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
    return filelock


class Witness:
    INSIDE, OVERLAPS, ENTRIES = 0, 8, 12

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
        if self.get(self.INSIDE) != 0:
            self.add(self.OVERLAPS)
        self.put(self.INSIDE, who)
        self.add(self.ENTRIES)

    def leave(self, who):
        if self.get(self.INSIDE) != who:
            self.add(self.OVERLAPS)
        self.put(self.INSIDE, 0)


def storm(lock, witness, rounds, who):
    for _ in range(rounds):
        with lock:
            witness.enter(who)
            witness.leave(who)


def add(file, who, own):
    """Adds one, as test_mixed.c does; false: somebody else was inside as well."""
    ledger = array.array("Q", file.read())
    if ledger[1 + who] != own:
        return False
    ledger[0] += 1
    ledger[1 + who] += 1
    file.seek(0)
    file.write(ledger)
    return True


def count(lock, path, who, rounds):
    for own in range(rounds):
        lock.acquire()
        with open(path, "r+b", buffering=0) as file:
            added = add(file, who, own)
        lock.release()
        if not added:
            return "lost"
    return "done"


def obey(words, lock, witness):
    if words[0] == "acquire":
        try:
            lock.acquire(timeout=float(words[1]), poll_interval=0.001)
        except TimeoutError:  # filelock.Timeout is one
            return "timeout"
        except Exception as error:
            return type(error).__name__
        return "held"
    if words[0] == "release":
        lock.release()
        return "released"
    if words[0] == "holder":
        return str(getattr(lock, "pid", None) or "none")
    if words[0] == "loss":
        return lock.compromise.reason if lock.compromise else "none"
    if words[0] == "count":
        return count(lock, words[1], int(words[2]), int(words[3]))
    storm(lock, witness, int(words[1]), int(words[2]))
    return "done"


def main():
    try:
        filelock = load()
    except ImportError as error:
        print("missing", error)
        return
    kind = sys.argv[3] if len(sys.argv) > 3 else "FileLock"
    options = {}
    if kind == "SoftFileLease":
        options["lease_duration"] = float(os.environ.get("FILELOCK_PEER_DURATION", 30))
    peer = getattr(filelock, kind, None)
    # 3.32.3 has the marker as a base class only, without a mode: it cannot acquire
    if not peer or (kind == "MarkerSoftFileLock" and not hasattr(peer, "_owner_mode")):
        print("missing", kind)
        return
    lock = peer(sys.argv[1], **options)
    witness = Witness(sys.argv[2])
    print("ready", getattr(filelock, "__version__", "unknown"), flush=True)
    for line in sys.stdin:
        print(obey(line.split(), lock, witness), flush=True)


main()
