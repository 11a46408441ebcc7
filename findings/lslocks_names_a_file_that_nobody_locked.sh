#!/usr/bin/env bash
# lslocks: it looks for a lock's file among the open files of its process by the inode number alone, though
# /proc/locks names the device, too. A process that has two files of one number open, on two file systems,
# is listed with the path and the size of the one that was opened first, whichever is locked. Numbers are
# alike where file systems give them out in turn: the first file of each tmpfs is number 2.
#
# Expected: the path of the file that is locked.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
if [ "${1-}" != --inside ]; then
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	"$here/unpack" "$work" bookworm util-linux=2.38.1-5+deb12u3 libsmartcols1=2.38.1-5+deb12u3 \
		libmount1=2.38.1-5+deb12u3
	unshare --user --map-root-user --mount "$0" --inside "$work" # with mounts of its own
	exit
fi
work=$2
lslocks=$(find "$work" -name lslocks -type f -perm -u+x)
export LIBRARIES=$work/usr/lib/x86_64-linux-gnu:$work/lib/x86_64-linux-gnu
LD_LIBRARY_PATH=$LIBRARIES "$lslocks" --version | sed 's/^/version: /'

mkdir "$work/one" "$work/two"
mount -t tmpfs one "$work/one"
mount -t tmpfs two "$work/two"
seen=$(
	/usr/bin/python3 - "$lslocks" "$work" <<-'END'
		import fcntl, os, subprocess, sys

		lslocks, work = sys.argv[1:]
		first, second = open(work + "/one/first", "w"), open(work + "/two/second", "w")
		numbers = [os.fstat(file.fileno()).st_ino for file in (first, second)]
		fcntl.flock(second, fcntl.LOCK_EX)
		shown = subprocess.run([lslocks, "--noheadings", "-p", str(os.getpid()), "-o", "PATH"], check=True,
		    text=True, stdout=subprocess.PIPE, env=dict(os.environ, LD_LIBRARY_PATH=os.environ["LIBRARIES"]))
		print("one inode number" if numbers[0] == numbers[1] else "two inode numbers", end=", ")
		print("two/second is locked and lslocks says", shown.stdout.strip().replace(work + "/", ""))
	END
)
known="one inode number, two/second is locked and lslocks says one/first"
echo "expected: one inode number, two/second is locked and lslocks says two/second"
echo "seen:     $seen"
[ "$seen" = "$known" ] || {
	echo "changed: it was '$known'"
	exit 1
}
