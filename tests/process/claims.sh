# shellcheck shell=bash
# claims.sh - for tests that are scripts: each function test_… is one test. It runs in a shell with
# `set -e`, in a folder of its own, and what it leaves running is killed. `run_claims "$@"`, at the
# end of a script, runs them all, or those that are named. Results also go to the TAP file.
set -uo pipefail

# shellcheck disable=SC2034 # for the scripts
bin=${FILELOCK_EXAMPLES_DIR:?where the examples were built}
[ -x "$bin/quickstart" ] || exit 77 # built without the examples: skipped
patience=50 # seconds, for a condition that must come true

fail() {
	echo "$*" >&2
	exit 1
}

# Ends a test that does not apply here, with its reason.
skip() {
	echo "skipped: $*"
	if [ -n "${CK_TAP_LOG_FILE_NAME-}" ]; then echo "$claim: $*" >>"$CK_TAP_LOG_FILE_NAME.skipped"; fi
	exit 0
}

# await COMMAND...: until it succeeds.
await() {
	local end=$((SECONDS + patience))
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "never: $*"
		sleep 0.01
	done
}

# status_is STATUS COMMAND...
status_is() {
	local expected=$1 status=0
	shift
	"$@" || status=$?
	[ "$status" = "$expected" ] || fail "status $status, not $expected: $*"
}

# ended_with STATUS PID: waits for a job.
ended_with() {
	local status=0
	wait "$2" || status=$?
	[ "$status" = "$1" ] || fail "status $status, not $1, of process $2"
}

# Whether a process waits for a lock with one of our handles, or in flock(2).
waits_in_loop() { grep -qs '^inotify wd' /proc/"$1"/fdinfo/*; }
waits_in_flock() { grep -q -- "-> FLOCK .* $1 " /proc/locks; }

# hold COMMAND...: runs the command with `sh` and a script that holds until `let_go`.
hold() {
	mkfifo holding go
	"$@" sh -c 'echo >holding; read -r _ <go' &
	holder=$!
	read -rt "$patience" _ <>holding || fail "not held: $*"
}

let_go() {
	echo >go
	wait "$holder"
	rm holding go
}

# In a session of its own, so that all of it can be killed.
run_one() {
	local folder pid status=0
	folder=$(mktemp -d)
	(cd "$folder" && exec setsid bash "$script" --only "$1") >"$log" 2>&1 </dev/null &
	pid=$!
	wait "$pid" || status=$?
	kill -9 -- "-$pid" 2>/dev/null
	rm -rf "$folder"
	return "$status"
}

run_claims() {
	local claims=("$@") tap=${CK_TAP_LOG_FILE_NAME:-/dev/null}
	local script number=0 failures=0 claim line log
	if [ "${1-}" = --only ]; then
		claim=$2
		set -e
		"$claim"
		exit 0
	fi
	[ $# -gt 0 ] || mapfile -t claims < <(compgen -A function test_)
	script=$(realpath "$0")
	log=$(mktemp)
	echo "1..${#claims[@]}" | tee "$tap"
	for claim in "${claims[@]}"; do
		number=$((number + 1)) line="ok $number - $claim"
		run_one "$claim" || {
			line="not $line"
			failures=$((failures + 1))
			sed 's/^/# /' "$log" >&2
		}
		echo "$line" | tee -a "$tap"
	done
	rm -f "$log"
	[ "$failures" = 0 ]
}
