#!/usr/bin/env bash
# SQLite: BEGIN IMMEDIATE, which writes nothing, makes a rollback journal on disk if the database
# is empty. A process that is killed then leaves it, beside a database of 0 bytes. With a table
# in the database no journal is made.
#
# Expected: a transaction that has written nothing leaves nothing beside the database, empty or not.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/unpack" "$work" bookworm sqlite3=3.40.1-2+deb12u2 libsqlite3-0=3.40.1-2+deb12u2
export LD_LIBRARY_PATH=$work/usr/lib/x86_64-linux-gnu
sqlite3=$work/usr/bin/sqlite3
echo "version: $("$sqlite3" --version | cut -d ' ' -f 1)"

# Killed inside the transaction: prints the size of what is left beside the database.
journal_after_a_kill() { # DATABASE
	local shell
	mkfifo "$1.in" "$1.out"
	"$sqlite3" "$1" <"$1.in" >"$1.out" &
	shell=$!
	exec 3>"$1.in" 4<"$1.out"
	printf 'begin immediate;\n.print begun\n' >&3
	read -r _ <&4
	kill -KILL "$shell"
	wait "$shell" 2>/dev/null || true
	exec 3>&- 4<&-
	if [ -e "$1-journal" ]; then stat -c '%s bytes' "$1-journal"; else echo none; fi
}

"$sqlite3" "$work/table.db" 'create table t (x)'
seen="empty: $(journal_after_a_kill "$work/empty.db"); with a table: $(journal_after_a_kill "$work/table.db")"
echo "expected: empty: none; with a table: none"
echo "seen:     $seen"
[ "$seen" = "empty: 512 bytes; with a table: none" ] || {
	echo "changed: it was 'empty: 512 bytes; with a table: none'"
	exit 1
}
