#!/usr/bin/env bash
# filelock against flock(1): the same statuses, the same locks, both ways round.
# shellcheck source=claims.sh
. "$(dirname "$0")/claims.sh"

filelock=${FILELOCK_COMMAND:?where the command was built}

test_exit_status_is_the_commands() {
	status_is 0 "$filelock" l true
	status_is 7 "$filelock" l sh -c 'exit 7'
	# shellcheck disable=SC2016
	status_is 137 "$filelock" l sh -c 'kill -9 $$'
	[ "$("$filelock" l echo a 'b c')" = "a b c" ]
	[ "$("$filelock" l -- echo -n)" = "" ]
}

same_status() {
	local status=0
	flock "$@" || status=$?
	status_is "$status" "$filelock" "$@"
}

test_other_statuses_are_those_of_flock() {
	echo >file
	same_status                       # 64
	same_status l                     # 64
	same_status --nope l true         # 64
	same_status -E 256 l true         # 64
	same_status -E x l true           # 64
	same_status -w x l true           # 64
	same_status file/l true           # 66
	same_status l ./no-such-command   # 69
	same_status l ./file              # 69: not executable
	same_status -o l sh -c 'exit 3'
}

test_usage_errors_run_nothing() {
	status_is 64 "$filelock" -k nonsense l touch ran
	status_is 64 "$filelock" -w nan l touch ran
	status_is 71 "$filelock" -w -1 l touch ran
	status_is 64 "$filelock" --holder l touch ran
	[ ! -e ran ] && [ ! -e l ]
}

test_kind_etcd_is_there_or_its_absence_is_said() {
	local words="built without"
	"$filelock" --help | grep -q '^Kinds:.* etcd$' && words="needs --endpoints"
	status_is 64 "$filelock" -k etcd l touch ran 2>why
	grep -q -- "$words" why
	[ ! -e ran ] && [ ! -e l ]
}

test_help_fits_a_screen() {
	"$filelock" --help >help
	grep -q '^usage: filelock' help
	[ "$(wc -l <help)" -le 24 ] && [ "$(wc -L <help)" -le 80 ]
}

test_version_is_printed() {
	"$filelock" -V | grep -q '^filelock [0-9]'
	[ "$("$filelock" --version)" = "$("$filelock" -V)" ]
}

test_no_wait_ends_with_1_or_the_given_status() {
	hold flock l
	status_is 1 "$filelock" -n l touch ran
	status_is 9 "$filelock" -n -E 9 l touch ran
	status_is 0 "$filelock" -n -E 0 l touch ran
	status_is 1 "$filelock" -w 0 l touch ran
	let_go
	[ ! -e ran ]
	status_is 0 "$filelock" -n l true
}

test_wait_ends_with_1_or_the_given_status() {
	hold flock l
	status_is 1 "$filelock" -w 0.02 l touch ran
	status_is 9 "$filelock" -w 0.02 -E 9 -k native l touch ran
	let_go
	[ ! -e ran ]
}

test_filelock_waits_for_flock() {
	hold flock l
	"$filelock" l touch ran &
	local waiter=$!
	await waits_in_loop $waiter
	[ ! -e ran ]
	let_go
	ended_with 0 $waiter
	[ -e ran ]
}

test_flock_waits_for_filelock() {
	hold "$filelock" l
	status_is 1 flock -n l true
	flock l touch ran &
	local waiter=$!
	await waits_in_flock $waiter
	[ ! -e ran ]
	let_go
	ended_with 0 $waiter
	[ -e ran ]
}

test_shared_locks_are_shared_with_flock() {
	hold flock -s l
	status_is 0 "$filelock" -s -n l true
	status_is 1 "$filelock" -x -n l true
	let_go
	hold "$filelock" -s l
	status_is 0 "$filelock" -s -n l true
	status_is 0 flock -s -n l true
	status_is 1 flock -n l true
	let_go
}

test_directory_is_locked_as_by_flock() {
	mkdir d
	hold flock d
	status_is 1 "$filelock" -n d true
	let_go
	hold "$filelock" d
	status_is 1 flock -n d true
	let_go
}

test_missing_folders_are_not_made() {
	status_is 66 "$filelock" a/b/l true
	status_is 66 "$filelock" -k soft a/b/l true
	[ ! -e a ]
}

# shellcheck disable=SC2317
add_one() {
	local i
	for ((i = 0; i < 25; i++)); do
		# shellcheck disable=SC2016
		"$@" l sh -c 'read -r n <count; echo $((n + 1)) >count'
	done
}

test_increments_under_filelock_and_flock_are_not_lost() {
	local jobs=()
	echo 0 >count
	add_one "$filelock" & jobs+=($!)
	add_one flock & jobs+=($!)
	add_one "$filelock" -o & jobs+=($!)
	add_one flock & jobs+=($!)
	wait "${jobs[@]}"
	[ "$(cat count)" = 100 ]
}

# The shell has its jobs ignore SIGINT.
signal_ends_wait() {
	local waiter
	hold flock l
	env --default-signal "$filelock" l touch ran &
	waiter=$!
	await waits_in_loop $waiter
	kill "-$1" $waiter
	ended_with "$2" $waiter
	let_go
	status_is 0 flock -n l true
	[ ! -e ran ]
}

test_sigint_ends_a_wait() { signal_ends_wait INT 130; }
test_sigterm_ends_a_wait() { signal_ends_wait TERM 143; }

test_ignored_sigint_does_not_end_a_wait() {
	hold flock l
	env --ignore-signal=INT "$filelock" l touch ran &
	local waiter=$!
	await waits_in_loop $waiter
	kill -INT $waiter
	let_go
	ended_with 0 $waiter
	[ -e ran ]
}

signal_is_passed_on() {
	mkfifo ready never
	# shellcheck disable=SC2016
	env --default-signal "$filelock" l bash -c \
		'trap "exit 5" '"$1"'; echo >ready; while :; do read -rt 1 <>never || :; done' &
	local runner=$!
	read -rt "$patience" _ <>ready
	kill "-$1" $runner
	ended_with 5 $runner
}

test_sigint_is_passed_on_to_the_command() { signal_is_passed_on INT; }
test_sigterm_is_passed_on_to_the_command() { signal_is_passed_on TERM; }

test_command_has_the_signal_mask_it_would_have_without() {
	grep SigBlk /proc/self/status >without
	"$filelock" l grep SigBlk /proc/self/status >with
	cmp without with
}

# descriptors NAME COMMAND...: what the command has open, but for the listing itself.
descriptors() {
	local name=$1
	shift
	# shellcheck disable=SC2016
	"$@" sh -c 'for fd in /proc/self/fd/*; do readlink $fd || :; done >list'
	grep -v '^/proc' list >"$name" || :
}

test_command_inherits_the_lock_and_nothing_else() {
	descriptors without env
	descriptors with "$filelock" l
	[ "$(diff without with | sed -n 's/^> //p')" = "$PWD/l" ]
	[ "$(wc -l <with)" = $(($(wc -l <without) + 1)) ]
}

test_command_inherits_nothing_with_close() {
	descriptors without env
	descriptors with "$filelock" -o l
	cmp without with
}

kill_runner() {
	kill -9 "$holder"
	ended_with 137 "$holder"
}

test_command_keeps_the_lock_when_filelock_is_killed() {
	hold "$filelock" l
	kill_runner
	status_is 1 flock -n l true
	echo >go
	status_is 0 flock -w $patience l true
}

test_command_does_not_keep_the_lock_with_close() {
	hold "$filelock" -o l
	kill_runner
	status_is 0 flock -w $patience l true
	echo >go
}

leave_behind() {
	mkfifo go
	"$@" l sh -c 'read -r _ <go &'
}

test_what_the_command_leaves_behind_keeps_the_lock_as_under_flock() {
	leave_behind flock
	status_is 1 "$filelock" -n l true
	echo >go
	status_is 0 "$filelock" -w $patience l true
	rm go
	leave_behind "$filelock"
	status_is 1 flock -n l true
	echo >go
	status_is 0 flock -w $patience l true
}

test_nothing_is_kept_behind_with_close() {
	leave_behind "$filelock" -o
	status_is 0 flock -n l true
	echo >go
}

test_waiter_is_woken_when_what_was_left_behind_ends() {
	leave_behind "$filelock"
	"$filelock" l touch ran &
	local waiter=$!
	await waits_in_loop $waiter
	echo >go
	ended_with 0 $waiter
}

test_holder_is_printed() {
	hold "$filelock" l
	"$filelock" --holder l | grep -q "^pid $holder on .*, exclusive"
	let_go
	hold flock -s l
	"$filelock" --holder l | grep -q "^pid $holder on .*, shared"
	let_go
}

test_no_holder_has_its_own_status() {
	local status=0
	"$filelock" --holder -E 3 l || status=$?
	# 69: in a container the system does not say that nobody holds it
	[ $status = 3 ] || [ $status = 69 ]
	[ ! -e l ]
}

test_program_with_a_record_lock_is_named_though_nobody_holds() {
	local status=0
	hold "$filelock" --fcntl l
	"$filelock" --holder l >named || status=$?
	let_go
	[ $status = 69 ] || grep -q "^nobody; .*by a record lock" named
	[ $status = 1 ] || [ $status = 69 ] # as above
}

test_soft_marker_says_who_holds_and_goes_with_the_command() {
	hold "$filelock" -k soft l
	[ "$(head -n 1 l)" = "$holder" ]
	"$filelock" -k soft --holder l | grep -q "^pid $holder on "
	status_is 1 "$filelock" -n -k soft l touch ran
	let_go
	[ ! -e l ] && [ ! -e ran ]
	status_is 3 "$filelock" -k soft --holder -E 3 l
}

test_soft_marker_of_a_killed_holder_is_taken_over_and_its_end_wakes() {
	hold "$filelock" -o -k soft l
	"$filelock" -k soft l touch ran &
	local waiter=$!
	await waits_in_loop $waiter
	kill -9 "$holder"
	ended_with 0 $waiter
	[ -e ran ] && [ ! -e l ]
}

test_soft_lock_cannot_be_shared() {
	status_is 64 "$filelock" -s -k soft l touch ran 2>message
	grep -q "cannot be shared" message
	[ ! -e l ] && [ ! -e ran ]
}

test_readwrite_readers_run_together_and_writers_alone() {
	local status=0
	[ "${FILELOCK_SQLITE-ON}" = ON ] || return 0
	hold "$filelock" -s -k readwrite l.db
	status_is 0 "$filelock" -s -n -k readwrite l.db true
	status_is 1 "$filelock" -x -n -k readwrite l.db touch ran
	"$filelock" -k readwrite --holder l.db | grep -q ' shared'
	let_go
	hold "$filelock" -x -k readwrite l.db
	status_is 1 "$filelock" -s -n -k readwrite l.db touch ran
	status_is 1 "$filelock" -x -w 0.02 -k readwrite l.db touch ran
	"$filelock" -k readwrite --holder l.db | grep -q ' exclusive'
	let_go
	"$filelock" -k readwrite --holder l.db || status=$?
	[ $status = 1 ] || [ $status = 69 ] # in a container it is not sure that nobody holds it
	[ ! -e ran ] && [ ! -s l.db ]
}

test_soft_readwrite_readers_run_together_and_a_killed_holder_is_left_out() {
	hold "$filelock" -s -k soft-readwrite l
	status_is 0 "$filelock" -s -n -k soft-readwrite l true
	status_is 1 "$filelock" -x -n -k soft-readwrite l touch ran
	"$filelock" -k soft-readwrite --holder l | grep -q ' shared'
	let_go
	status_is 1 "$filelock" -k soft-readwrite --holder l
	hold "$filelock" -o -x -k soft-readwrite l
	status_is 1 "$filelock" -s -n -k soft-readwrite l touch ran
	kill -9 "$holder"
	await "$filelock" -s -n -k soft-readwrite l true
	[ ! -e ran ] && [ ! -e l ] && [ -d l.rw/gen ]
}

test_readwrite_waits_and_is_woken() {
	[ "${FILELOCK_SQLITE-ON}" = ON ] || return 0
	hold "$filelock" -s -k readwrite l.db
	"$filelock" -x -k readwrite l.db touch ran &
	local waiter=$!
	await waits_in_loop $waiter
	status_is 1 "$filelock" -s -n -k readwrite l.db true # the writer comes first
	let_go
	ended_with 0 $waiter
	[ -e ran ]
}

test_readwrite_names_what_it_refuses() {
	[ "${FILELOCK_SQLITE-ON}" = ON ] || return 0
	status_is 64 "$filelock" -k readwrite l.lock touch ran 2>message
	grep -q 'must end in .db' message
	echo 'no database' >l.db
	status_is 66 "$filelock" -k readwrite l.db touch ran 2>message
	grep -q 'neither empty nor an SQLite database' message
	[ ! -e ran ] && [ "$(cat l.db)" = 'no database' ]
}

test_what_does_not_go_together_is_refused() {
	status_is 64 "$filelock" -F -o l touch ran
	status_is 64 "$filelock" -u -k soft l touch ran
	status_is 64 "$filelock" -k soft 9
	status_is 64 "$filelock" --fcntl -k soft l touch ran
	status_is 64 "$filelock" --fcntl -a m l touch ran
	status_is 64 "$filelock" -a m 9
	status_is 64 "$filelock" --holder --fcntl l
	status_is 64 "$filelock" --holder --break l
	status_is 64 "$filelock" --timeout-signal TERM l touch ran
	status_is 64 "$filelock" -w 1 --timeout-signal NONSENSE l touch ran
	[ ! -e ran ] && [ ! -e l ] && [ ! -e m ]
}

test_descriptor_stays_locked_until_it_is_unlocked() {
	exec 8>l
	status_is 0 "$filelock" -n 8
	status_is 1 flock -n l true
	status_is 0 "$filelock" -u 8
	status_is 0 flock -n l true
}

test_descriptor_is_waited_for() {
	hold flock l
	exec 8<l
	"$filelock" 8 &
	local waiter=$!
	await waits_in_loop $waiter
	let_go
	ended_with 0 $waiter
	status_is 1 flock -n l true
}

test_shell_command_runs_in_the_shell_of_the_user() {
	ln -s "$(command -v bash)" bash
	# shellcheck disable=SC2016
	[ "$(SHELL=$PWD/bash "$filelock" l -c 'echo $0')" = "$PWD/bash" ]
	# shellcheck disable=SC2016
	[ "$(SHELL='' "$filelock" l -c 'echo $0')" = /bin/sh ]
}

# The process of the command is the one that was started.
test_no_fork_becomes_the_command_with_its_lock() {
	mkfifo up down
	"$filelock" -F l sh -c 'echo $$ >up; read -r _ <down' &
	local runner=$! pid
	read -rt "$patience" pid <>up
	[ "$pid" = $runner ]
	status_is 1 flock -n l true
	echo >down
	ended_with 0 $runner
	status_is 0 flock -n l true
}

test_record_lock_is_waited_for_and_kept_by_the_command() {
	hold "$filelock" --fcntl l
	status_is 1 "$filelock" --fcntl -n l touch ran
	status_is 1 "$filelock" --fcntl -s -w 0.02 l touch ran
	status_is 0 "$filelock" -n l true # another kind of lock
	"$filelock" --fcntl l touch ran &
	local waiter=$!
	await grep -q -- "-> OFDLCK" /proc/locks
	[ ! -e ran ]
	kill -9 "$holder"
	ended_with 137 "$holder"
	[ ! -e ran ] # its command goes on
	echo >go
	ended_with 0 $waiter
	[ -e ran ]
}

test_sigterm_ends_a_wait_for_a_record_lock() {
	hold "$filelock" --fcntl l
	env --default-signal "$filelock" --fcntl l touch ran &
	local waiter=$!
	await grep -q -- "-> OFDLCK" /proc/locks
	kill $waiter
	ended_with 143 $waiter
	let_go
	[ ! -e ran ]
}

test_several_locks_are_held_together_or_not_at_all() {
	hold "$filelock" -a a -a b c
	for lock in a b c; do status_is 1 flock -n $lock true; done
	let_go
	hold flock b
	status_is 5 "$filelock" -n -E 5 -a b -a c a touch ran
	"$filelock" -w 0.02 -a b -a c a touch ran || :
	for lock in a c; do status_is 0 flock -n $lock true; done
	let_go
	[ ! -e ran ]
	status_is 64 "$filelock" -a 2>message
	status_is 66 "$filelock" -a missing/b a touch ran
}

test_several_locks_are_kept_by_the_command() {
	hold "$filelock" -a a b
	kill_runner
	for lock in a b; do status_is 1 flock -n $lock true; done
	echo >go
	for lock in a b; do status_is 0 flock -w $patience $lock true; done
}

test_wait_message_names_the_holder() {
	hold flock l
	"$filelock" --wait-message l true 2>message &
	local waiter=$!
	await grep -q "^filelock: waiting for pid $holder (flock).* which holds l$" message
	let_go
	ended_with 0 $waiter
	[ "$(wc -l <message)" = 1 ]
}

test_wait_message_of_several_names_the_one_that_is_held() {
	hold flock b
	"$filelock" --wait-message -a b -a c a true 2>message &
	local waiter=$!
	await grep -q "^filelock: waiting for pid $holder .* which holds b$" message
	let_go
	ended_with 0 $waiter
}

# The limit is longer than the second after which the holder would be named.
test_wait_message_needs_a_terminal_and_no_quiet() {
	hold flock l
	status_is 1 "$filelock" -w 1.5 l true 2>message
	status_is 1 "$filelock" -q --wait-message -w 1.5 l true 2>>message
	let_go
	[ ! -s message ]
}

test_verbose_says_what_flock_says() {
	hold flock l
	status_is 1 "$filelock" --verbose -n l true 2>message
	status_is 1 "$filelock" --verbose -w 0.02 l true 2>>message
	let_go
	[ "$(cat message)" = "filelock: failed to get lock
filelock: timeout while waiting to get lock" ]
	"$filelock" --verbose l echo hi >message
	[ "$(sed 's/[0-9]\.[0-9]*/N/' message)" = "filelock: getting lock took N seconds
filelock: executing echo
hi" ]
}

test_timeout_signal_ends_the_holder_and_takes_its_place() {
	env --default-signal flock -F l sleep 1000 &
	local holder=$!
	await eval '! flock -n l true'
	status_is 0 "$filelock" -w 0.05 --timeout-signal TERM -E 9 l touch ran 2>message
	ended_with 143 $holder
	grep -q "^filelock: sent signal 15 to pid $holder$" message
	[ -e ran ]
}

test_timeout_signal_that_changes_nothing_is_sent_once() {
	env --ignore-signal=USR1 flock -F l sleep 1000 &
	await eval '! flock -n l true'
	status_is 9 "$filelock" -w 0.05 --timeout-signal SIGUSR1 -E 9 l touch ran 2>message
	[ "$(grep -c '^filelock: sent' message)" = 1 ]
	[ ! -e ran ]
}

test_soft_lock_is_broken_by_force_only() {
	hold "$filelock" -k soft l
	status_is 0 "$filelock" -k soft --break l
	status_is 0 "$filelock" -n -k soft l touch ran
	[ -e ran ]
	let_go
	status_is 69 "$filelock" -k soft --break l 2>message
	status_is 64 "$filelock" --break l 2>message
	grep -q 'cannot be broken' message
}

test_claims_are_listed_and_broken_by_name() {
	status_is 1 "$filelock" -k strict --claims l
	hold "$filelock" -k strict l
	status_is 0 "$filelock" -k strict --claims l >claims
	[ "$(grep -c '^held-v1-\|^intent-v1-' claims)" = 2 ]
	while read -r name _; do
		status_is 0 "$filelock" -k strict --break-claim "$name" l
	done <claims
	status_is 0 "$filelock" -n -k strict l touch ran
	[ -e ran ]
	let_go
	status_is 69 "$filelock" -k strict --break-claim held-v1-x.claim l 2>message
	status_is 64 "$filelock" --claims l
	status_is 64 "$filelock" -k strict --claims --holder l
}

test_members_of_a_soft_readwrite_lock_are_listed_and_left_out_by_name() {
	status_is 1 "$filelock" -k soft-readwrite --claims l
	hold "$filelock" -s -k soft-readwrite l
	status_is 0 "$filelock" -k soft-readwrite --claims l >claims
	grep -qx '[0-9a-f]\{32\} pid [0-9]* on .*, reads' claims
	status_is 1 "$filelock" -n -k soft-readwrite l true
	read -r name _ <claims
	status_is 0 "$filelock" -k soft-readwrite --break-claim "$name" l
	status_is 0 "$filelock" -n -k soft-readwrite l touch ran
	[ -e ran ]
	let_go
}

test_lease_and_strict_lock_are_held_for_the_command() {
	for kind in lease strict; do
		hold "$filelock" -k "$kind" "$kind"
		status_is 1 "$filelock" -n -k "$kind" "$kind" touch ran
		[ ! -e ran ]
		let_go
		status_is 0 "$filelock" -k "$kind" "$kind" true
		status_is 64 "$filelock" -k "$kind" -F "$kind" true
	done
}

# completed WORD...: fills COMPREPLY for the last word.
completed() {
	# shellcheck disable=SC1091
	. "$FILELOCK_SOURCE_DIR/command/filelock.bash"
	# shellcheck disable=SC2034
	COMP_WORDS=("$filelock" "$@") COMP_CWORD=$#
	_filelock
}

test_completions_know_options_kinds_files_and_commands() {
	: >backup.lock
	completed --timeout-s
	[ "${COMPREPLY[*]}" = --timeout-signal ]
	completed -k so
	[ "${COMPREPLY[0]}" = soft ]
	completed -k etcd --endpoints http://127.0.0.1:1 jobs ech
	[[ " ${COMPREPLY[*]} " == *" echo "* ]]
	completed -w 5 back
	[ "${COMPREPLY[*]}" = backup.lock ]
	completed -n backup.lock ech
	[[ " ${COMPREPLY[*]} " == *" echo "* ]]
}

run_claims "$@"
