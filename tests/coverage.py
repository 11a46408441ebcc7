#!/usr/bin/env python3
"""coverage.py [--at-least LINES BRANCHES] BUILD_DIR SOURCE_DIR FOLDER...: what gcov has counted.

Prints lines and branches, file by file, of the sources in the folders, and each line that was not
run or branches only in part. A line with the comment

    uncovered: WORD

in it need not be covered, and WORD says why; it is not counted, and reported if it is covered
after all, unless WORD is "race": chance may cover that. The branches of an assertion are not counted:
one of them is a bug. Exit status 0: at least so many percent of the rest are (100 and 100).
"""
import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys

MARKER = re.compile(r"/\* uncovered: (\w+) \*/")
ASSERTION = re.compile(r"^\s*assert\(")


class Source:
    def __init__(self, path):
        self.path = path
        self.lines = collections.Counter()
        # one function of a header is compiled into many objects: by line, position in it
        self.branches = collections.defaultdict(collections.Counter)
        self.excuses = {}
        self.assertions = set()
        for number, text in enumerate(path.read_text().splitlines(), 1):
            found = MARKER.search(text)
            if found:
                self.excuses[number] = found.group(1)
            if ASSERTION.match(text):
                self.assertions.add(number)

    def add(self, line):
        number = line["line_number"]
        self.lines[number] += line["count"]
        if number in self.assertions:
            return
        for position, branch in enumerate(line["branches"]):
            self.branches[number][position] += branch["count"]

    def missed(self, number):
        """What is missing of a line, in words; empty: nothing."""
        if self.lines[number] == 0:
            return "not run"
        taken = self.branches.get(number, {})
        never = [str(position) for position, count in taken.items() if count == 0]
        if not never:
            return ""
        return "of %d branches not taken: %s" % (len(taken), " ".join(never))


def read(build, root, folders):
    """The sources, as {path: Source}, from all data files below build."""
    sources = {}
    objects = [data.resolve() for data in build.rglob("*_objects.dir/**/*.gcda")]
    for data in sorted(objects):
        run = subprocess.run(["gcov", "--json-format", "--stdout", "--branch-probabilities",
                              str(data)], stdout=subprocess.PIPE, check=True, cwd=build)
        for file in json.loads(run.stdout)["files"]:
            path = (build / file["file"]).resolve()
            if not path.is_relative_to(root) or path.relative_to(root).parts[0] not in folders:
                continue
            source = sources.setdefault(path, Source(path))
            for line in file["lines"]:
                source.add(line)
    return sources


def percent(part, whole):
    return 100 * part / whole if whole else 100


def share(part, whole):
    return "%5d of %5d  %6.2f %%" % (part, whole, percent(part, whole))


class Sum:
    def __init__(self):
        self.lines = self.lines_run = self.branches = self.branches_taken = 0

    def row(self, name):
        return "%-24s %s   %s" % (name, share(self.lines_run, self.lines),
                                  share(self.branches_taken, self.branches))


def count(source, name, total, notes):
    """The file's own sum, which is added to the total; what is missed goes to notes."""
    own = Sum()
    for number in sorted(source.lines):
        missed = source.missed(number)
        excuse = source.excuses.get(number)
        if excuse:
            if missed or excuse != "race":
                notes["excused" if missed else "stale"].append(
                    "%s:%d: %s (%s)" % (name, number, missed or "is covered", excuse))
            continue
        if missed:
            notes["missed"].append("%s:%d: %s" % (name, number, missed))
        taken = source.branches.get(number, {})
        own.lines += 1
        own.lines_run += source.lines[number] > 0
        own.branches += len(taken)
        own.branches_taken += sum(count > 0 for count in taken.values())
    for member in vars(own):
        setattr(total, member, getattr(total, member) + getattr(own, member))
    return own


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--at-least", nargs=2, type=float, default=(100, 100))
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("folders", nargs="+")
    options = parser.parse_args()
    root = options.root.resolve()
    sources = read(options.build.resolve(), root, options.folders)
    notes = {"missed": [], "excused": [], "stale": []}
    total = Sum()
    rows = []
    for path in sorted(sources):
        name = str(path.relative_to(root))
        rows.append(count(sources[path], name, total, notes).row(name))
    for kind, title in (("excused", "not covered, and why not"), ("missed", "not covered"),
                        ("stale", "said to be not covered, but it is")):
        if notes[kind]:
            print("%s:\n  %s\n" % (title, "\n  ".join(notes[kind])))
    print("%-24s %24s   %24s" % ("", "lines", "branches"))
    print("\n".join(rows))
    print(total.row("all"))
    lines, branches = options.at_least
    if percent(total.lines_run, total.lines) < lines or notes["stale"]:
        return 1
    return 0 if percent(total.branches_taken, total.branches) >= branches else 1


sys.exit(main())
