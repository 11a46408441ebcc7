#!/usr/bin/env bash
# lslocks: a file that was opened with O_TMPFILE, locked, and then given a name by linkat(2) is
# listed under the name that it had in the kernel before, "#INODE (deleted)", though it stands at
# its path and has one link. It takes the path from /proc/PID/fd, where the kernel keeps that
# name.
#
# Expected: the path, or the mount point that lslocks prints where it knows no path ("/mount...").
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/unpack" "$work" bookworm util-linux=2.38.1-5+deb12u3 libsmartcols1=2.38.1-5+deb12u3 libmount1=2.38.1-5+deb12u3
export LD_LIBRARY_PATH=$work/usr/lib/x86_64-linux-gnu:$work/lib/x86_64-linux-gnu
lslocks=$(find "$work" -name lslocks -type f -perm -u+x)
"$lslocks" --version | sed 's/^/version: /'

mkdir "$work/folder"
seen=$(
	env -u LD_LIBRARY_PATH LIBRARIES="$LD_LIBRARY_PATH" /usr/bin/python3 - "$lslocks" "$work/folder" <<-'END'
		import fcntl, os, subprocess, sys

		lslocks, folder = sys.argv[1:]
		at = os.open(folder, os.O_RDONLY)
		fd = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
		fcntl.flock(fd, fcntl.LOCK_EX)
		os.link("/proc/self/fd/%d" % fd, "named", src_dir_fd=at, dst_dir_fd=at, follow_symlinks=True)
		same = os.path.samestat(os.fstat(fd), os.stat(folder + "/named"))
		shown = subprocess.run([lslocks, "--noheadings", "-p", str(os.getpid()), "-o", "PATH"], check=True,
		    text=True, stdout=subprocess.PIPE, env=dict(os.environ, LD_LIBRARY_PATH=os.environ["LIBRARIES"]))
		path = shown.stdout.strip().replace(folder, "FOLDER").replace(str(os.fstat(fd).st_ino), "INODE")
		print("FOLDER/named is the file" if same else "another file", "and lslocks says", path)
	END
)
echo "expected: FOLDER/named is the file and lslocks says FOLDER/named"
echo "seen:     $seen"
[ "$seen" = "FOLDER/named is the file and lslocks says FOLDER/#INODE (deleted)" ] || {
	echo "changed: it was 'FOLDER/named is the file and lslocks says FOLDER/#INODE (deleted)'"
	exit 1
}
