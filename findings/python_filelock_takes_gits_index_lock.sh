#!/usr/bin/env bash
# Python's filelock 4.1.1: a SoftFileLock on a path where another program's marker stands takes
# it away after two seconds, if it cannot read it as its own record. git keeps .git/index.lock,
# which is an index, for as long as the editor of "git commit --all" is open: after two seconds
# both hold that lock.
#
# Expected: an unknown file at the path is somebody's lock, as it is for git, which ends with
# "File exists".
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/unpack" "$work" sid python3-filelock=4.1.1-1
"$here/unpack" "$work/git" bookworm git=1:2.39.5-0+deb12u3
export PYTHONPATH=$work/usr/lib/python3/dist-packages PYTHONDONTWRITEBYTECODE=1
export GIT_EXEC_PATH=$work/git/usr/lib/git-core GIT_CONFIG_NOSYSTEM=1 HOME=$work
git=$work/git/usr/bin/git
cd "$work"
echo "version: filelock $(/usr/bin/python3 -c 'import filelock; print(filelock.__version__)'), $("$git" --version)"

mkfifo opened message
"$git" init -q --template= repository
GIT_EDITOR="sh -c 'echo >$work/opened; cat $work/message >\"\$1\"' -" \
	"$git" -C repository -c user.name=nobody -c user.email=nobody@localhost \
	commit --all --allow-empty &>log &
read -r _ <opened
held=$([ -e repository/.git/index.lock ] && echo "git holds it" || echo "git does not hold it")
taken=$(/usr/bin/python3 - <<-'END'
	import filelock

	try:
	    filelock.SoftFileLock("repository/.git/index.lock").acquire(timeout=10)
	    print("Python takes it meanwhile")
	except filelock.Timeout:
	    print("Python is kept out")
END
)
echo words >message
wait || true
seen="$held, $taken"
echo "expected: git holds it, Python is kept out"
echo "seen:     $seen"
[ "$seen" = "git holds it, Python takes it meanwhile" ] || {
	echo "changed: it was 'git holds it, Python takes it meanwhile'"
	exit 1
}
