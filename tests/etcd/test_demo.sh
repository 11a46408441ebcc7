#!/usr/bin/env bash
# The demonstration with etcd: the leader is killed in the middle, and no increment is lost.
set -euo pipefail

etcd=${FILELOCK_TEST_ETCD:-etcd}
if ! command -v "$etcd" >/dev/null || [ ! -x "$FILELOCK_EXAMPLES_DIR/counter_server" ]; then
	echo "skipped: etcd is not installed, or the examples are not built"
	exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/examples"
for program in counter_server counter_load timeline; do
	ln -s "$FILELOCK_EXAMPLES_DIR/$program" "$work/examples/$program"
done

ETCD=$etcd "$FILELOCK_SOURCE_DIR/examples/demo" -b "$work" -k etcd -n 600 >"$work/said" 2>"$work/progress" || {
	cat "$work/said" "$work/progress"
	exit 1
}
grep -q 'With the lock: *600 increments made, counter reads 600: 0 lost' "$work/said"
grep -qE 'Killed meanwhile: .* after [3-6][0-9][0-9] increments' "$work/said"
grep -q ' 0 requests met another one inside' "$work/said"
[ -s "$work/timeline.svg" ]
