#!/usr/bin/env bash
# Python's filelock 3.9.0 (Debian 12): a FileLock opens its file with O_TRUNC before it asks for
# the lock. An attempt that fails has emptied the file under its holder, with whatever the holder
# had written into it.
#
# Expected: who does not get the lock changes nothing.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/unpack" "$work" bookworm python3-filelock=3.9.0-1+deb12u1
export PYTHONPATH=$work/usr/lib/python3/dist-packages PYTHONDONTWRITEBYTECODE=1
cd "$work"
echo "version: $(/usr/bin/python3 -c 'import filelock; print(filelock.__version__)')"

seen=$(
	exec 9>lock
	flock 9
	echo "held by $$" >&9
	/usr/bin/python3 - <<-'END'
		import filelock, os

		try:
		    filelock.FileLock("lock").acquire(timeout=0)
		    print("taken", end=", ")
		except filelock.Timeout:
		    print("refused", end=", ")
		print("emptied" if os.path.getsize("lock") == 0 else "content kept")
	END
)
echo "expected: refused, content kept"
echo "seen:     $seen"
[ "$seen" = "refused, emptied" ] || {
	echo "changed: it was 'refused, emptied'"
	exit 1
}
