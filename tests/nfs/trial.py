"""trial.py PACKAGES SCRATCH [--quick | --machines] [KIND...]: see `run`."""
import os
import statistics
import sys
import time

from machines import Machine, Trouble

GRACE = 10      # seconds: the server's lease time and its grace period; with --quick, for slow machines:
QUICK_GRACE = 20
VERSIONS = ["4.2", "4.1", "3"]
KINDS = ["native", "soft", "lease", "strict", "soft-readwrite", "readwrite"]
ENDING = ["lease", "soft-readwrite"]  # holds end on a machine that is too slow, and say so
SERVED = ["native", "readwrite"]      # locks of the server
PROCESSES, COUNT = 2, 12
APART = 3600    # seconds: each client's clock from the server's
BOOT = 300      # seconds: for a machine's start, which takes ten
PATIENCE = 600  # seconds: for what must come, on a machine as slow as it likes
SILENCE = 20    # seconds without a grant, after those that must come, that count as "never"


def duration(seconds):
    return "at once" if seconds < 1.5 else f"after {seconds:.0f} s"


def goes_on(version, kind):
    """Whether others get a lock of a machine that is silent."""
    return kind in ENDING or kind in SERVED and version != "3"


class Hold:
    """A process of a machine that waits for a lock, and holds it until it is told to release it."""

    def __init__(self, trial, machine, version, kind, phase):
        path = f"/nfs/{version}/{version}-{kind}/{phase}" + (".db" if kind == "readwrite" else ".lock")
        self.version, self.kind, self.machine = version, kind, machine
        self.job = machine.begin(f"echo pid $BASHPID; exec {trial.contend} hold {kind} {path} exclusive")
        self.pid = self.job.wait_for("pid", PATIENCE)[1]
        self.job.wait_for("waits", PATIENCE)

    def held(self, seconds=PATIENCE):
        return self.job.wait_for("held", seconds)[0]

    def held_at_last(self, seconds):
        return self.job.wait_for("held", max(0.1, seconds), required=False)[0]

    def signal(self, name):
        self.machine.begin(f"kill -{name} {self.pid}")

    def asked(self):
        """What verify says."""
        self.signal("USR1")
        return self.job.wait_for("asked", PATIENCE)[1]

    def released(self):
        """The time of the release, and what verify said just before."""
        self.signal("TERM")
        verified = self.job.wait_for("verify", PATIENCE)[1]
        return self.job.wait_for("released", PATIENCE)[0], verified


class Trial:
    def __init__(self, packages, scratch, kinds, quick):
        grace = QUICK_GRACE if quick else GRACE
        self.silence = 5 if quick else SILENCE
        self.contend = os.path.join(scratch, "contend")
        self.kinds = kinds
        self.versions = ["4.2", "3"] if quick else VERSIONS
        self.machines = {name: Machine(name, scratch, packages, grace) for name in ("server", "one", "two")}
        self.facts, self.failures = {}, []
        self.began = time.monotonic()

    server = property(lambda self: self.machines["server"])
    one = property(lambda self: self.machines["one"])
    two = property(lambda self: self.machines["two"])
    both = property(lambda self: [(version, kind) for version in self.versions for kind in self.kinds])

    def progress(self, text):
        print(f"{time.monotonic() - self.began:5.0f} s  {text}", flush=True)

    def note(self, version, kind, fact, text):
        self.facts[version, kind, fact] = text

    def fail(self, version, kind, text):
        self.failures.append(f"NFS {version}, {kind}: {text}")
        self.progress("FAILED: " + self.failures[-1])

    def mount(self, machine):
        for version in self.versions:
            folder = "/disk/export" if version == "3" else "/"
            machine.run(f"mount -t nfs -o vers={version} server:{folder} /nfs/{version}", PATIENCE)

    def start(self):
        for machine in self.machines.values():
            machine.start()
        for machine in self.machines.values():
            machine.wait_ready(BOOT)

    def prepare(self):
        for machine in (self.one, self.two):
            self.mount(machine)
        self.one.run(f"date --set '{APART} seconds ago'")
        self.two.run(f"date --set '{APART} seconds'")
        for version, kind in self.both:
            self.one.run(f"mkdir /nfs/{version}/{version}-{kind}")
        self.progress("three machines, two of them clients of the third, all clocks an hour apart; " +
                      self.server.run("uname -r"))

    def end(self):
        for machine in self.machines.values():
            if machine.running:
                machine.kill()

    # --- exclusion ---

    def storm(self, version):
        jobs = {}
        for kind in self.kinds:
            folder = f"/nfs/{version}/{version}-{kind}"
            path = folder + "/storm" + (".db" if kind == "readwrite" else ".lock")
            jobs[kind] = [machine.begin(f"{self.contend} storm {kind} {path} {folder} {COUNT} {PROCESSES}")
                          for machine in (self.one, self.two)]
        for kind, pair in jobs.items():
            self.judge_storm(version, kind, [job.finish(PATIENCE).split("\n") for job in pair])

    def judge_storm(self, version, kind, said):
        tallies = [dict(zip(words[::2], map(int, words[1::2])))
                   for words in (lines[-1].split() for lines in said)]
        total = {key: sum(tally[key] for tally in tallies) for key in tallies[0]}
        counted = int(self.two.run(f"{self.contend} counted /nfs/{version}/{version}-{kind}"))
        self.progress(f"NFS {version}, {kind}: storm: {total}, counted {counted}")
        if total["overlaps"] or total["torn"] or counted != total["count"]:
            self.fail(version, kind, f"no exclusion: {total}, counted {counted}")
        if total["errors"]:
            self.fail(version, kind, f"errors: {said}")
        self.note(version, kind, "excludes", "no" if counted != total["count"] else "yes")

    # --- hand-over, and a killed holder ---

    def hand_over(self, version, rounds):
        holders = {kind: Hold(self, self.one, version, kind, "hand") for kind in self.kinds}
        took = {kind: [] for kind in self.kinds}
        for holder in holders.values():
            holder.held()
        for turn in range(rounds):
            machine = (self.two, self.one)[turn % 2]
            for kind in self.kinds:
                waiter = Hold(self, machine, version, kind, "hand")
                released, verified = holders[kind].released()
                if verified != "ok" and kind not in ENDING:
                    self.fail(version, kind, f"verify: {verified}")
                took[kind].append(waiter.held() - released)
                holders[kind] = waiter
        for kind in self.kinds:
            median = max(0, statistics.median(took[kind])) * 1000
            self.note(version, kind, "released → granted, ms", f"{median:.0f}")
        self.progress(f"NFS {version}: handed over, ms: " +
                      ", ".join(f"{kind} {max(0, statistics.median(took[kind])) * 1000:.0f}" for kind in self.kinds))
        return holders

    def waiters(self, machine, holders, phase):
        return {key: Hold(self, machine, holder.version, holder.kind, phase) for key, holder in holders.items()}

    def granted(self, waiters, since, fact, coming):
        """Notes how long after `since`, a time for each, each waiter got its lock; those that did. Those of
        `coming` must get it, however late."""
        got, end = {}, None
        for key in sorted(waiters, key=lambda key: key not in coming):
            waiter = waiters[key]
            if key not in coming and end is None:
                end = time.monotonic() + self.silence
            when = waiter.held() if key in coming else waiter.held_at_last(end - time.monotonic())
            text = "never" if when is None else duration(when - since[key])
            self.note(waiter.version, waiter.kind, fact, text)
            self.progress(f"NFS {waiter.version}, {waiter.kind}: {fact}: {text}")
            if when is not None:
                got[key] = waiter
                if waiter.kind not in ENDING + SERVED:
                    self.fail(waiter.version, waiter.kind, "taken over from another machine")
        return got

    def kill_holders(self, holders):
        machine = next(iter(holders.values())).machine
        other = self.two if machine is self.one else self.one
        waiters = self.waiters(other, holders, "hand")
        since = {}
        for key, holder in holders.items():
            holder.signal("KILL")
            holder.job.finish(PATIENCE)
            since[key] = holder.job.ended
        self.granted(waiters, since, "holder killed: others go on",
                     [kind for kind in waiters if kind in ENDING + SERVED])
        self.let_all_go({}, waiters)

    # --- machines ---

    def hold_all(self, phase):
        holders = {key: Hold(self, self.one, *key, phase) for key in self.both}
        for holder in holders.values():
            holder.held()
        return holders, self.waiters(self.two, holders, phase)

    def granted_in_silence(self, waiters, since, fact):
        return self.granted(waiters, since, fact, [key for key in waiters if goes_on(*key)])

    def let_all_go(self, holders, waiters):
        for hold in list(holders.values()) + list(waiters.values()):
            hold.signal("KILL")

    def take_the_same_name(self):
        """A record names a process by its number and its host: there is none of that number there."""
        self.two.run("hostname one")
        holders, waiters = self.hold_all("name")
        end = time.monotonic() + 5
        granted = {key: waiter.held_at_last(end - time.monotonic()) for key, waiter in waiters.items()}
        for key, holder in holders.items():
            verified = holder.released()[1]
            if key[1] not in ENDING and verified != "ok" or granted[key] and verified == "ok":
                self.fail(*key, f"a machine of the same name: granted {granted[key]}, verify: {verified}")
        self.progress("two machines of one name exclude each other")
        self.let_all_go({}, waiters)
        self.two.run("hostname two")

    def restart_server(self):
        fact = "server restarted: holder"
        holders, waiters = self.hold_all("restart")
        self.server.kill()
        self.server.start().wait_ready(BOOT)
        self.progress("the server is there again")
        for version in self.versions:  # what is new, it gives only after its grace period
            Hold(self, self.two, version, "native", "grace").held()
        for key, holder in holders.items():
            early = waiters[key].held_at_last(0.1)
            released, verified = holder.released()
            self.progress(f"NFS {key[0]}, {key[1]}: {fact}: {verified}, waiter {'granted' if early else 'waits'}")
            if early and verified == "ok":
                self.fail(*key, "two hold after a restart of the server")
            self.note(*key, fact, "holds" if verified == "ok" else "told of loss")
            if not early:
                waiters[key].held()
        self.let_all_go({}, waiters)

    def hold_unwanted(self, phase):
        """Locks of the server that nobody else asks for meanwhile."""
        holders = {(version, kind): Hold(self, self.one, version, kind, phase)
                   for version, kind in self.both if kind in SERVED}
        for holder in holders.values():
            holder.held()
        return holders

    def want_them_after_all(self, holders):
        """Either the holder is told, or it has taken the lock again before it was asked for."""
        said = {key: holder.asked() for key, holder in holders.items()}
        waiters = self.waiters(self.two, holders, "unwanted")
        end = time.monotonic() + self.silence
        for key, waiter in waiters.items():
            granted = waiter.held_at_last(end - time.monotonic())
            self.progress(f"NFS {key[0]}, {key[1]}: nobody wanted it: {said[key]}, "
                          f"then another {'got it' if granted else 'waited'}")
            if granted and said[key] == "ok":
                self.fail(*key, "a hold that says it goes on is none")
        self.let_all_go(holders, waiters)

    def silence_machine(self, what, phase, begin, end):
        holders, waiters = self.hold_all(phase)
        unwanted = self.hold_unwanted("unwanted")
        begin()
        since = dict.fromkeys(holders, time.monotonic())
        got = self.granted_in_silence(waiters, since, f"{what}: others go on")
        end()
        fact = f"{what}: the holder then"
        for key, holder in holders.items():
            _, verified = holder.released()
            self.progress(f"NFS {key[0]}, {key[1]}: {fact}: {verified}")
            self.note(*key, fact, "holds" if verified == "ok" else "told of loss")
            if key in got and verified == "ok":
                self.note(*key, fact, "not told")
                self.fail(*key, f"{what}: the holder is not told that another one holds the lock")
        self.let_all_go({}, waiters)
        self.want_them_after_all(unwanted)

    def stop_machine(self):
        self.silence_machine("machine stopped", "stop", self.one.stop, self.one.go_on)

    def cut_network(self):
        self.silence_machine("network cut", "cut", lambda: self.one.run("ip link set eth0 down"),
                             lambda: self.one.run("ip link set eth0 up"))

    def lose_machine(self):
        holders, waiters = self.hold_all("lose")
        since = dict.fromkeys(holders, time.monotonic())
        self.one.kill()
        got = self.granted_in_silence(waiters, since, "machine lost: others go on")
        self.one.start().wait_ready(BOOT)
        again = dict.fromkeys(holders, time.monotonic())
        rest = {key: waiter for key, waiter in waiters.items() if key not in got}
        if rest:
            self.granted(rest, again, "... it starts again", [key for key in rest if key[1] in SERVED])

    def try_processes(self, rounds):
        for version in self.versions:
            self.storm(version)
            self.kill_holders(self.hand_over(version, rounds))
        self.take_the_same_name()

    def try_machines(self):
        self.restart_server()
        self.stop_machine()
        self.cut_network()
        self.lose_machine()

    def table(self):
        facts = list(dict.fromkeys(fact for _, _, fact in self.facts))
        lines = []
        for version in self.versions:
            rows = [[f"NFS {version}"] + self.kinds]
            for fact in facts:
                rows.append([fact] + [self.facts.get((version, kind, fact), "") for kind in self.kinds])
            widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
            rows.insert(1, ["-" * width for width in widths])
            lines += ["", *("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
                            for row in rows)]
        return "\n".join(lines)


def main():
    packages, scratch, *rest = sys.argv[1:]
    quick, machines = "--quick" in rest, "--machines" in rest
    trial = Trial(packages, scratch, [word for word in rest if word in KINDS] or KINDS, quick)
    try:
        trial.start()
        trial.prepare()
    except Trouble as trouble:
        trial.end()
        print(f"no machines with NFS between them here: {trouble}")
        return 77
    try:
        if not machines:
            trial.try_processes(2 if quick else 4)
        trial.try_machines()
    except Trouble as trouble:
        trial.failures.append(str(trouble))
    finally:
        trial.end()
    print(trial.table())
    for failure in trial.failures:
        print("failed: " + failure)
    return 1 if trial.failures else 0


if __name__ == "__main__":
    sys.exit(main())
