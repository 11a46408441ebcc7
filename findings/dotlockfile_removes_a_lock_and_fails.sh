#!/usr/bin/env bash
# dotlockfile -l -r 1 on a lock file that is older than five minutes: it removes the file as
# stale, and then ends with status 4, "couldn't create the lock file after so many attempts". The
# lock is gone, nobody has it, and the caller is told that somebody else has. With -r 2 it takes
# the lock, with -r 0 it leaves the file alone.
#
# Expected: either it takes the lock that it has found stale (status 0), or it leaves the file
# where it is.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/unpack" "$work" bookworm liblockfile-bin=1.17-1+b1 liblockfile1=1.17-1+b1
echo "version: liblockfile-bin 1.17-1+b1"
cd "$work"

attempt() { # RETRIES
	local status=0
	rm -f lock
	touch -d '-6 minutes' lock
	LD_LIBRARY_PATH=usr/lib/x86_64-linux-gnu usr/bin/dotlockfile -l -r "$1" -i 1 lock || status=$?
	echo "-r $1: status $status, $([ -e lock ] && echo 'a lock file' || echo 'no lock file')"
}

seen="$(attempt 0); $(attempt 1); $(attempt 2)"
known="-r 0: status 4, a lock file; -r 1: status 4, no lock file; -r 2: status 0, a lock file"
echo "expected: with -r 1, 'status 0, a lock file' or 'status 4, a lock file'"
echo "seen:     $seen"
[ "$seen" = "$known" ] || {
	echo "changed: it was '$known'"
	exit 1
}
