#!/usr/bin/env bash
# etcd: a transaction that only compares is answered by the server that it is sent to, from what that
# one knows, though reads and transactions ask a majority unless they say otherwise. Who confirms by such
# a transaction that a key is there yet may be told so by a server that was cut off. With one read in it,
# of whatever key, it is linearizable.
#
# Expected: where two of three servers are stopped, neither transaction is answered.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
if [ "${1-}" != --inside ]; then
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	"$here/unpack" "$work" bookworm etcd-server=3.4.23-4+b4 etcd-client=3.4.23-4+b4
	unshare --user --map-root-user --net "$0" --inside "$work" # with ports of its own
	exit
fi
work=$2
ip link set lo up
pids=()
trap 'kill -KILL "${pids[@]}" 2>/dev/null || true' EXIT
echo "version: $("$work/usr/bin/etcd" --version | sed -n 1p)"

cluster=a=http://127.0.0.1:23801,b=http://127.0.0.1:23802,c=http://127.0.0.1:23803
number=0
for name in a b c; do
	number=$((number + 1))
	"$work/usr/bin/etcd" --name "$name" --data-dir "$work/$name" --initial-cluster "$cluster" \
		--listen-peer-urls "http://127.0.0.1:2380$number" \
		--initial-advertise-peer-urls "http://127.0.0.1:2380$number" \
		--listen-client-urls "http://127.0.0.1:2379$number" \
		--advertise-client-urls "http://127.0.0.1:2379$number" >"$work/$name.log" 2>&1 &
	pids+=($!)
done

ask() { # SECONDS TEXT: the first word of the answer, or "nothing"
	printf '%b' "$2" | ETCDCTL_API=3 "$work/usr/bin/etcdctl" --endpoints http://127.0.0.1:23793 \
		--command-timeout "$1s" txn 2>/dev/null | head -n 1 | grep . || echo nothing
}

compares='create("key") = "0"\n\n\n\n'
reads='create("key") = "0"\n\nget key\n\n\n'
for _ in $(seq 30); do # until there is a leader
	[ "$(ask 2 "$reads")" = nothing ] || break
done
before="comparisons $(ask 5 "$compares"), with a read $(ask 5 "$reads")"
kill -STOP "${pids[0]}" "${pids[1]}"
seen="$before; alone: comparisons $(ask 5 "$compares"), with a read $(ask 5 "$reads")"
known="comparisons SUCCESS, with a read SUCCESS; alone: comparisons SUCCESS, with a read nothing"
echo "expected: comparisons SUCCESS, with a read SUCCESS; alone: comparisons nothing, with a read nothing"
echo "seen:     $seen"
[ "$seen" = "$known" ] || {
	echo "changed: it was '$known'"
	exit 1
}
