#!/usr/bin/env bash
# lockfile-create on sshfs: it publishes its file by link(2), and takes it for its own if both names have
# one inode number. sshfs makes the link, but numbers each name by itself. So the lock stands there, made
# by lockfile-create, which says that it could not make it (status 4) and leaves it behind: nobody gets it
# until it is removed by hand or by age.
#
# Expected: as on the folder that is mounted: status 0; or no lock is left where it fails. Needs root, or
# fusermount3, and /dev/fuse; no network: sshfs talks to sftp-server by a pipe.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
mkdir "$work/source" "$work/mount"
unmount() { umount "$work/mount" 2>/dev/null || fusermount3 -u "$work/mount"; }
trap '! mountpoint -q "$work/mount" || unmount; rm -rf "$work"' EXIT
"$here/unpack" "$work" bookworm sshfs=3.7.3-1.2~deb12u1 libfuse3-3=3.14.0-4 \
	openssh-sftp-server=1:9.2p1-2+deb12u10 lockfile-progs=0.1.19 liblockfile1=1.17-1+b1
echo "version: sshfs 3.7.3, lockfile-progs 0.1.19, liblockfile 1.17"
export LIBRARIES=$work/usr/lib/x86_64-linux-gnu:$work/lib/x86_64-linux-gnu

/usr/bin/python3 - "$work" <<-'END' &
	import os, socket, subprocess, sys

	work = sys.argv[1]
	environment = dict(os.environ, LD_LIBRARY_PATH=os.environ["LIBRARIES"])
	near, far = socket.socketpair()
	subprocess.Popen([work + "/usr/lib/openssh/sftp-server"], stdin=far, stdout=far, env=environment)
	far.close()
	subprocess.run([work + "/usr/bin/sshfs", "-f", "-o", "passive", "here:" + work + "/source",
	    work + "/mount"], stdin=near, stdout=near, env=environment)
END
server=$!
until mountpoint -q "$work/mount"; do
	kill -0 "$server"
	sleep 0.05
done

attempt() { # FOLDER
	local status=0 left
	LD_LIBRARY_PATH=$LIBRARIES "$work/usr/bin/lockfile-create" --retry 0 --quiet "$1/job" || status=$?
	left=$([ -e "$work/source/job.lock" ] && echo "the lock stands there" || echo "no lock")
	rm -f "$work/source/job.lock"
	echo "status $status, $left"
}

folder=$(attempt "$work/source")
seen=$(attempt "$work/mount")
echo "expected: $folder (as in the folder itself)"
echo "seen:     $seen"
[ "$folder; $seen" = "status 0, the lock stands there; status 4, the lock stands there" ] || {
	echo "changed: it was 'status 4, the lock stands there', and 'status 0, the lock stands there' in the folder"
	exit 1
}
