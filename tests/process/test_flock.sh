#!/usr/bin/env bash
# filelock beside flock(1) on a table of calls: the same status, the same output of the command, the same
# files. FILELOCK_TEST_FLOCK names another flock(1) than that of the path.
# shellcheck source=claims.sh
. "$(dirname "$0")/claims.sh"

filelock=${FILELOCK_COMMAND:?where the command was built}
reference=${FILELOCK_TEST_FLOCK:-$(command -v flock)} || skip 'flock(1) is not installed'

# The calls, one a line, in words of the shell: l is the lock file, d a folder, link a symbolic link to
# l, dangling one to nothing, script a file without the right to execute.
anywhere() {
	cat <<-'CALLS'

		l
		9x
		99999999999999 true
		--no-such-option l true
		-E
		-E 256 l true
		-E -1 l true
		-E x l true
		-w x l true
		-w 1,5 l true
		-w 0.5x l true
		-w 99999999999 -n l true
		-c true l
		l -c
		l -c 'echo a' b
		l -c 'echo hi; exit 3'
		l --command 'echo hi'
		l -- echo a
		-- l echo a
		l -n true
		l ./no-such-command
		l ./script
		l sh -c 'exit 7'
		l sh -c 'kill -9 $$'
		l echo a 'b  c' ''
		-o l echo closed
		--close l echo closed
		-F l echo exec
		--no-fork l sh -c 'exit 9'
		-F l ./no-such-command
		-F -o l true
		d echo folder
		d/new echo made
		no-such-folder/l echo made
		script/l echo made
		link echo link
		dangling echo link
		/dev/null echo device
		-u l echo unlocked
		--unlock l echo unlocked
		8
	CALLS
}

# These end while the lock is held, too, in one mode or in the other.
contended() {
	cat <<-'CALLS'
		-n l echo a
		--nb l echo a
		--nonblock l echo a
		-x -n l echo a
		-e -n l echo a
		--exclusive -n l echo a
		-s -n l echo a
		--shared --nonblock l echo a
		-w 0 l echo a
		-w 0.05 l echo a
		-w .05 l echo a
		--wait 0.05 l echo a
		--timeout 5e-2 l echo a
		-s -w 0.05 l echo a
		-n -E 9 l echo a
		-n -E 0 l echo a
		-w 0.05 --conflict-exit-code 9 l echo a
		-n -w 50 l echo a
		-w 50 -n l echo a
		-s -x -n l echo a
		-x -s -n l echo a
		-n link echo a
		-n -o l echo a
		-n -F l echo a
		-n l -c 'echo a'
		-n 9
		-s -n 9
		-n -E 5 9
		-w 0.05 9
		-u 9
	CALLS
}

with_fcntl() {
	cat <<-'CALLS'
		--fcntl -n l echo a
		--fcntl -s -n l echo a
		--fcntl -w 0.05 l echo a
		--fcntl -s -w 0.05 l echo a
		--fcntl -w 0 -E 7 l echo a
		--fcntl -F -n l echo a
		--fcntl -o -n l echo a
		--fcntl -n 9
		--fcntl -s -n 9
		--fcntl -u 9
		--fcntl -n /dev/null echo a
		--fcntl d echo a
		--fcntl -s -n d echo a
		--fcntl no-such-folder/l echo a
	CALLS
}

# scene TOOL CALL: its status, output and files, with descriptor 9 on a file that is locked as l is.
scene() {
	local status=0
	mkdir run run/d
	cd run
	ln -s l link
	ln -s new dangling
	echo 'exit 0' >script
	if [ -e ../l ]; then ln ../l l; fi
	eval "$1 $2" 9<>../nine </dev/null 2>../message || status=$?
	echo "status $status"
	find . | sort
	cd ..
	rm -r run
}

# A flock(1) of 32 bit takes no time that its kernel would not: left out there.
calls_of_32_bit() {
	if [ "$(getconf LONG_BIT)" = 32 ]; then grep -v -e '-w 99999999999 '; else cat; fi
}

# same_of CALLS: both tools, call by call, while the lock is held as `how` says.
same_of() {
	local call number=0
	# shellcheck disable=SC2086
	if [ -n "$how" ]; then hold "$reference" $how l "$reference" $how nine; fi
	while IFS= read -r call; do
		scene "$reference" "$call" >theirs
		scene "$filelock" "$call" >ours
		diff theirs ours || fail "$how: '$call'"
		number=$((number + 1))
	done < <("$1" | calls_of_32_bit)
	[ "$number" -gt 10 ]
	if [ -n "$how" ]; then let_go; fi
}

how=""
test_free_locks_as_with_flock() { same_of anywhere; }
test_free_locks_without_waiting_as_with_flock() { same_of contended; }
test_locks_that_are_held_as_with_flock() { how=-x same_of contended; }
test_locks_that_are_shared_as_with_flock() { how=-s same_of contended; }

# Without its lock file, which flock(1) makes before it looks at the time.
test_no_time_to_wait_has_the_status_of_flock() {
	local call status
	for call in "-w -1 l true" "-w inf l true"; do
		status=0
		# shellcheck disable=SC2086
		"$reference" $call || status=$?
		# shellcheck disable=SC2086
		status_is "$status" "$filelock" $call
	done
}

has_fcntl() {
	"$reference" --help | grep -q fcntl || skip 'flock(1) has no --fcntl (util-linux 2.41)'
}
test_free_record_locks_as_with_flock() {
	has_fcntl
	same_of with_fcntl
}
test_record_locks_that_are_held_as_with_flock() {
	has_fcntl
	how="--fcntl -x" same_of with_fcntl
}
test_record_locks_that_are_shared_as_with_flock() {
	has_fcntl
	how="--fcntl -s" same_of with_fcntl
}

run_claims "$@"
