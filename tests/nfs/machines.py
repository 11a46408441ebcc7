"""User-mode Linux machines: started, told what to do, stopped, killed and started again.

All machines must be in one network namespace. They talk to one another by multicast on its loopback
device, or, with NFS_NETWORK=taps, by its devices tap1, tap2, tap3.
"""
import itertools
import os
import queue
import re
import signal
import subprocess
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ADDRESS = {"server": 1, "one": 2, "two": 3}


def network(number):
    mac = f"52:54:00:00:00:0{number}"
    if os.environ["NFS_NETWORK"] == "taps":
        return f"tuntap,tap{number},{mac}"
    return f"mcast,{mac},239.192.168.1,1102,1"


class Trouble(Exception):
    pass


class Job:
    """A command that runs in a machine; what it prints comes as lines with the time of their arrival."""

    def __init__(self, machine, number, command):
        self.machine, self.number, self.command = machine, number, command
        self.lines = []
        self.status = self.ended = None
        self.news = queue.Queue()
        self.seen = 0

    def arrived(self, line, status=None):
        self.news.put((time.monotonic(), line, status))

    def wait_for(self, word, seconds, required=True):
        """The time at which a line came that begins with the word, and the rest of that line."""
        end = time.monotonic() + seconds
        while True:
            while self.seen < len(self.lines):
                when, line = self.lines[self.seen]
                self.seen += 1
                if line.split(" ")[0] == word:
                    return when, line[len(word):].strip()
            if self.status is not None or not self._take(end - time.monotonic()):
                if not required:
                    return None, None
                raise Trouble(f"{self.machine.name}: {self.command}: no '{word}' after {seconds} s "
                              f"(status {self.status}): {[line for _, line in self.lines]}")

    def finish(self, seconds):
        end = time.monotonic() + seconds
        while self.status is None:
            if not self._take(end - time.monotonic()):
                raise Trouble(f"{self.machine.name}: {self.command}: not done after {seconds} s: "
                              f"{[line for _, line in self.lines]}")
        return "\n".join(line for _, line in self.lines)

    def _take(self, seconds):
        try:
            when, line, status = self.news.get(timeout=max(0, seconds))
        except queue.Empty:
            return False
        if status is None:
            self.lines.append((when, line))
        else:
            self.status, self.ended = status, when
        return True


class Machine:
    def __init__(self, name, scratch, packages, grace):
        self.name, self.scratch, self.packages, self.grace = name, scratch, packages, grace
        self.running = False
        self.numbers = itertools.count(1)
        self.disk = os.path.join(scratch, name + ".disk")
        self.log = open(os.path.join(scratch, name + ".log"), "ab")
        with open(self.disk, "wb") as disk:
            disk.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.disk], check=True, stdout=subprocess.DEVNULL)

    def start(self):
        uml = next(path for path in (self.packages + "/usr/bin/linux.uml", "/usr/bin/linux.uml")
                   if os.path.exists(path))
        modules = next(path for path in (self.packages + "/usr/lib/uml/modules", "/usr/lib/uml/modules")
                       if os.path.exists(path))
        number = ADDRESS[self.name]
        command = [uml, "mem=192M", "umid=" + self.name, "uml_dir=" + self.scratch,
                   "ubda=" + self.disk, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
                   "init=" + HERE + "/guest", "con=null", "con0=fd:0,fd:1", "quiet", "panic=1",
                   "eth0=" + network(number),
                   "NFS_NAME=" + self.name, "NFS_PACKAGES=" + self.packages, "NFS_MODULES=" + modules,
                   f"NFS_GRACE={self.grace}"]
        self.jobs = {}
        self.running = True
        self.ready = threading.Event()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log, start_new_session=True,
                                        env=dict(os.environ, TMPDIR=self.scratch))
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout, self.jobs),
                                       daemon=True)
        self.reader.start()
        return self

    def wait_ready(self, seconds):
        end = time.monotonic() + seconds
        while not self.ready.wait(0.1):
            if self.process.poll() is not None or time.monotonic() > end:
                raise Trouble(f"{self.name} does not start")
        return self

    def _read(self, stream, jobs):
        for raw in stream:
            self.log.write(raw)
            self.log.flush()
            line = raw.decode(errors="replace").rstrip("\r\n")
            if line == "@ready":
                self.ready.set()
            match = re.match(r"@(\d+)(?:=(\d+)| (.*))$", line)
            job = jobs.get(int(match[1])) if match else None
            if job:
                job.arrived(match[3], None if match[2] is None else int(match[2]))

    def begin(self, command):
        number = next(self.numbers)
        job = self.jobs[number] = Job(self, number, command)
        self.process.stdin.write(f"{number} {command}\n".encode())
        self.process.stdin.flush()
        return job

    def run(self, command, seconds=600, required=True):
        job = self.begin(command)
        said = job.finish(seconds)
        if required and job.status != 0:
            raise Trouble(f"{self.name}: {command}: status {job.status}: {said}")
        return said

    def stop(self):
        # its processes are traced by it, and would report a signal of their own to its kernel
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self):
        """As when its power fails. Its disk stays."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.running = False
        self.process.stdin.close()
        self.reader.join(10)
