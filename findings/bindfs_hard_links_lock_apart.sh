#!/usr/bin/env bash
# bindfs: two hard links of one file have the same device, inode number and content on the mount,
# but are two inodes to the kernel. An flock(2) on one does not exclude an flock(2) on the other:
# a lock file that is made under a private name and published by link(2) is held by nobody under
# its public name.
#
# Expected: as on the folder that is mounted: the second flock(2) is refused. Needs root, or
# fusermount3, and /dev/fuse.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
mkdir "$work/source" "$work/mount"
unmount() { umount "$work/mount" 2>/dev/null || fusermount3 -u "$work/mount"; }
trap '! mountpoint -q "$work/mount" || unmount; rm -rf "$work"' EXIT
"$here/unpack" "$work" bookworm bindfs=1.14.7-1 libfuse3-3=3.14.0-4
export LD_LIBRARY_PATH=$work/usr/lib/x86_64-linux-gnu:$work/lib/x86_64-linux-gnu
"$work/usr/bin/bindfs" --version | head -n 1 | sed 's/^/version: /'
"$work/usr/bin/bindfs" "$work/source" "$work/mount"

look() { # FOLDER
	env -u LD_LIBRARY_PATH /usr/bin/python3 - "$1" <<-'END'
		import fcntl, os, sys

		private, public = sys.argv[1] + "/private", sys.argv[1] + "/public"
		holder = open(private, "w")
		fcntl.flock(holder, fcntl.LOCK_EX)
		os.link(private, public)
		other = open(public)
		same = os.path.samestat(os.fstat(holder.fileno()), os.fstat(other.fileno()))
		try:
		    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
		    words = "both hold the lock"
		except BlockingIOError:
		    words = "the second is refused"
		print("one inode number:" if same else "two inode numbers:", words)
	END
}

folder=$(look "$work/source")
rm "$work/source/private" "$work/source/public"
seen=$(look "$work/mount")
echo "expected: $folder (as in the folder itself)"
echo "seen:     $seen"
[ "$seen" = "one inode number: both hold the lock" ] || {
	echo "changed: it was 'one inode number: both hold the lock'"
	exit 1
}
