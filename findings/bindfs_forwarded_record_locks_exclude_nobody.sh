#!/usr/bin/env bash
# bindfs --enable-lock-forwarding: its manual says that locks are forwarded to the source folder,
# so that locking a file in the mount also locks it there. Record locks (fcntl(2)) of two
# processes on the mount then exclude each other no longer, which they do without that option:
# bindfs takes them all as one process. flock(2) is forwarded well.
#
# Expected: the second process is refused, with the option or without. Needs root, or
# fusermount3, and /dev/fuse.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
mkdir "$work/source" "$work/mount"
unmount() { umount "$work/mount" 2>/dev/null || fusermount3 -u "$work/mount"; }
trap '! mountpoint -q "$work/mount" || unmount; rm -rf "$work"' EXIT
"$here/unpack" "$work" bookworm bindfs=1.14.7-1 libfuse3-3=3.14.0-4
libraries=$work/usr/lib/x86_64-linux-gnu:$work/lib/x86_64-linux-gnu
LD_LIBRARY_PATH=$libraries "$work/usr/bin/bindfs" --version | head -n 1 | sed 's/^/version: /'

# Two processes, one after the other, lock the same file without waiting.
look() { # flock|lockf
	/usr/bin/python3 - "$1" "$work/mount/file" <<-'END'
		import fcntl, os, sys

		lock, path = getattr(fcntl, sys.argv[1]), sys.argv[2]
		file = open(path, "a+b")
		lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
		if os.fork() == 0:
		    other = open(path, "a+b")
		    try:
		        lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
		        print("both hold")
		    except OSError:
		        print("refused")
		    sys.exit()
		os.wait()
	END
}

both() { # OPTION...
	local seen
	LD_LIBRARY_PATH=$libraries "$work/usr/bin/bindfs" "$@" "$work/source" "$work/mount"
	seen="record lock $(look lockf), flock $(look flock)"
	unmount
	echo "$seen"
}

plain=$(both)
forwarded=$(both --multithreaded --enable-lock-forwarding)
echo "expected: the same with forwarding as without: $plain"
echo "seen:     with forwarding: $forwarded"
[ "$plain; $forwarded" = "record lock refused, flock refused; record lock both hold, flock refused" ] || {
	echo "changed: it was 'record lock refused, flock refused' without, 'record lock both hold, flock refused' with it"
	exit 1
}
