#!/usr/bin/env bash
# The example of a resource that checks tokens, with a real etcd: what several clients write has rising
# tokens, and a former holder is refused.
set -euo pipefail

program=$FILELOCK_EXAMPLES_DIR/etcd_resource
etcd=${FILELOCK_TEST_ETCD:-etcd}
if ! command -v "$etcd" >/dev/null || [ ! -x "$program" ]; then
	echo "skipped: etcd is not installed, or the examples are not built"
	exit 77
fi
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill -9 "$server"; rm -rf "$work"' EXIT

free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
client=http://127.0.0.1:$(free_port)
peer=http://127.0.0.1:$(free_port)
"$etcd" --data-dir "$work/data" --listen-client-urls "$client" --advertise-client-urls "$client" \
	--listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
	--initial-cluster "default=$peer" >"$work/log" 2>&1 &
server=$!

# the server may take a while: the clients wait for it
clients=()
for i in 1 2 3 4; do
	"$program" "$client" jobs/nightly "$work/resource" "client $i" &
	clients+=($!)
done
for pid in "${clients[@]}"; do wait "$pid"; done
"$program" "$client" jobs/nightly "$work/resource" last

[ "$(wc -l <"$work/resource")" = 5 ]
cut -d' ' -f1 "$work/resource" | sort -nuc
first=$(head -n 1 "$work/resource" | cut -d' ' -f1)
if "$program" -t "$first" "$client" jobs/nightly "$work/resource" former 2>"$work/why"; then
	echo "a former holder was not refused"
	exit 1
fi
grep -q 'Stale' "$work/why"
[ "$(wc -l <"$work/resource")" = 5 ]
