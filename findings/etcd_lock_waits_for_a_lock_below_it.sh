#!/usr/bin/env bash
# etcdctl lock, and the lock of etcd's client library that it uses: the queue of a lock is all keys that begin
# with its name and a slash. So whoever wants "jobs" waits while somebody has "jobs/nightly", of which it
# has never heard. The other way round nobody waits: who wants "jobs/nightly" gets it while somebody has
# "jobs". Two names exclude each other or not, as the order has it.
#
# Expected: two names are two locks.
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
export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=http://127.0.0.1:23791
echo "version: $("$work/usr/bin/etcd" --version | sed -n 1p)"
"$work/usr/bin/etcd" --data-dir "$work/data" --listen-peer-urls http://127.0.0.1:23801 \
	--listen-client-urls "$ETCDCTL_ENDPOINTS" --advertise-client-urls "$ETCDCTL_ENDPOINTS" >"$work/log" 2>&1 &
server=$!
trap 'kill "$server"; wait' EXIT
until "$work/usr/bin/etcdctl" endpoint health >/dev/null 2>&1; do
	kill -0 "$server"
	sleep 0.2
done

attempt() { # HELD WANTED
	local holder seen=waits
	mkfifo "$work/key"
	"$work/usr/bin/etcdctl" lock "$1" >"$work/key" &
	holder=$!
	read -r _ <"$work/key"
	timeout 5 "$work/usr/bin/etcdctl" lock "$2" true 2>/dev/null && seen="gets it"
	kill "$holder" 2>/dev/null || true # it may have ended when its output was read
	wait "$holder" || true
	rm "$work/key"
	echo "who wants $2 beside $1 $seen"
}

seen="$(attempt jobs/nightly jobs); $(attempt jobs jobs/nightly)"
known="who wants jobs beside jobs/nightly waits; who wants jobs/nightly beside jobs gets it"
echo "expected: who wants jobs beside jobs/nightly gets it; who wants jobs/nightly beside jobs gets it"
echo "seen:     $seen"
[ "$seen" = "$known" ] || {
	echo "changed: it was '$known'"
	exit 1
}
