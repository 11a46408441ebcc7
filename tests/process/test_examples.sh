#!/usr/bin/env bash
# The examples do what they say, each run for real.
# shellcheck source=claims.sh
. "$(dirname "$0")/claims.sh"

test_quickstart_has_the_lock() {
	[ "$("$bin/quickstart")" = "$PWD/quickstart.lock is ours" ]
	[ -f quickstart.lock ]
}

test_quickstart_says_what_went_wrong() {
	mkdir d
	status_is 1 "$bin/quickstart" d 2>message
	grep -q "$PWD/d" message
}

test_async_quickstart_waits_while_its_loop_goes_on() {
	hold flock l
	"$bin/async_quickstart" l >output &
	local waiter=$!
	await grep -q 'the loop goes on' output
	let_go
	ended_with 0 $waiter
	[ "$(tail -n 1 output)" = "$PWD/l is ours" ]
}

test_async_quickstart_says_what_went_wrong() {
	mkdir d
	status_is 1 "$bin/async_quickstart" d 2>message
	grep -q "$PWD/d" message
}

# Each lock is waited for by itself, so one that is free does not wait behind one that is held.
test_loop_on_poll_has_each_lock_when_it_comes_free() {
	hold flock a
	"$bin/poll_loop" a b >output &
	local waiter=$!
	await grep -q "$PWD/b is ours" output
	status_is 1 grep -q "$PWD/a is ours" output
	let_go
	ended_with 0 $waiter
	grep -q "$PWD/a is ours" output
}

test_loop_on_poll_says_what_went_wrong() {
	mkdir d
	status_is 1 "$bin/poll_loop" d 2>message
	grep -q "$PWD/d" message
}

test_loop_of_libuv_waits_while_its_other_work_goes_on() {
	[ -x "$bin/uv_loop" ] || skip 'built without libuv'
	hold flock l
	"$bin/uv_loop" l >output &
	local waiter=$!
	await grep -q 'the loop goes on' output
	let_go
	ended_with 0 $waiter
	[ "$(tail -n 1 output)" = "$PWD/l is ours" ]
}

# start NAME COMMAND...: starts a server; fills pid and port.
start() {
	mkfifo "$1.port"
	"${@:2}" >"$1.port" &
	pid=$!
	read -rt "$patience" port <>"$1.port" || fail "did not start: $*"
	port=${port##*:}
}

# converse PORT LINE...: a client that waits for each answer.
converse() {
	local line answer fd
	exec {fd}<>"/dev/tcp/127.0.0.1/$1"
	shift
	for line; do
		echo "$line" >&"$fd"
		read -r answer <&"$fd"
		[ "$answer" = ok ]
	done
	exec {fd}>&-
}

test_existing_app_appends_every_line_of_every_client_whole() {
	local clients=() servers=() i lines
	for i in 1 2; do
		start "$i" "$bin/existing_app" lines.txt
		servers+=("$pid")
		mapfile -t lines < <(seq -f "server $i client a line %g" 30)
		converse "$port" "${lines[@]}" & clients+=($!)
		mapfile -t lines < <(seq -f "server $i client b line %g" 30)
		converse "$port" "${lines[@]}" & clients+=($!)
	done
	for i in "${clients[@]}"; do ended_with 0 "$i"; done
	kill "${servers[@]}"
	for i in "${servers[@]}"; do ended_with 0 "$i"; done
	[ "$(wc -l <lines.txt)" = 120 ]
	for i in 1 2; do
		for client in a b; do
			grep "^server $i client $client" lines.txt |
				cmp - <(seq -f "server $i client $client line %g" 30)
		done
	done
}

test_existing_app_waits_for_a_foreign_holder() {
	start app "$bin/existing_app" lines.txt
	hold flock lines.txt.lock
	converse "$port" hello &
	local client=$!
	await waits_in_loop "$pid"
	[ ! -s lines.txt ]
	let_go
	ended_with 0 $client
	[ "$(cat lines.txt)" = hello ]
}

test_existing_app_ends_cleanly_while_a_client_waits() {
	start app "$bin/existing_app" lines.txt
	hold flock lines.txt.lock
	exec 9<>"/dev/tcp/127.0.0.1/$port"
	echo lost >&9
	await waits_in_loop "$pid"
	kill "$pid"
	ended_with 0 "$pid"
	let_go
	[ ! -s lines.txt ]
}

test_existing_app_refuses_a_line_without_end() {
	start app "$bin/existing_app" lines.txt
	exec 9<>"/dev/tcp/127.0.0.1/$port"
	head -c 100000 /dev/zero >&9 2>error || :
	status_is 1 read -r _ <&9 2>>error # the end, or a reset
	converse "$port" "still here"
}

# http METHOD [PATH]: the server's answer, without its head.
http() {
	local fd line
	exec {fd}<>"/dev/tcp/127.0.0.1/$port"
	printf '%s '"${2-/}"' HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" >&"$fd"
	while read -r line <&"$fd" && [ "$line" != $'\r' ]; do :; done
	cat <&"$fd"
	exec {fd}>&-
}

reads=()

# counters OPTION...: four servers on one counter, 2000 increments; fills `result`.
counters() {
	local servers=() ports=() i
	for i in 1 2 3 4; do
		start "$i" "$bin/counter_server" "$@" -t "$i.trace" counter.txt
		servers+=("$pid") ports+=("$port")
	done
	result=$("$bin/counter_load" -n 2000 "${reads[@]}" "${ports[@]}" 2>progress)
	kill "${servers[@]}"
	for i in "${servers[@]}"; do ended_with 0 "$i"; done
	cat [1-4].trace >trace
	[ "$(wc -l <trace)" -gt 2000 ]
}

test_counter_servers_lose_no_increment() {
	counters -k native
	[[ $result == "made 2000 failed 0 counter 2000 "* ]] || fail "$result"
	grep -q '2000 of 2000' progress
}

test_counter_servers_with_markers_lose_no_increment() {
	reads=(-r 1)
	counters -k soft
	[[ $result == "made 2000 failed 0 counter 2000 "* ]] || fail "$result"
	[ ! -e counter.txt.lock ]
}

test_counter_servers_with_leases_lose_no_increment() {
	counters -k lease
	[[ $result == "made 2000 failed 0 counter 2000 "* ]] || fail "$result"
	[ ! -e counter.txt.lock ]
}

test_counter_servers_with_claims_lose_no_increment() {
	counters -k strict
	[[ $result == "made 2000 failed 0 counter 2000 "* ]] || fail "$result"
	[ -z "$(ls counter.txt.lock.filelock/claims)" ]
}

test_counter_servers_let_readers_in_together_and_writers_alone() {
	[ "${FILELOCK_SQLITE-ON}" = ON ] || return 0
	reads=(-r 3)
	counters -k readwrite
	[[ $result == "made 2000 failed 0 counter 2000 "* ]] || fail "$result"
	[ -f counter.txt.db ] && [ ! -s counter.txt.db ]
	"$bin/timeline" a=trace >svg 2>facts
	grep -q ' clashes 0$' facts || fail "$(cat facts)"
	! grep -q ' inside 1 ' facts || fail "no readers overlapped: $(cat facts)"
}

test_counter_servers_are_never_inside_together() {
	counters
	"$bin/timeline" a=trace >svg 2>facts
	grep -q 'requests 2001 .* inside 1 clashes 0$' facts || fail "$(cat facts)"
}

test_counter_servers_without_locking_lose_increments() {
	counters -u
	local counter=${result#*counter }
	[ "${counter%% *}" -lt 2000 ]
	"$bin/timeline" a=trace >svg 2>facts
	! grep -q 'inside 1 clashes 0$' facts
}

test_counter_is_read_beside_readers_and_written_alone() {
	start counter "$bin/counter_server" counter.txt
	hold flock -s counter.txt.lock
	[ "$(http GET)" = 0 ]
	http POST >answer &
	local client=$!
	await waits_in_loop "$pid"
	let_go
	ended_with 0 $client
	[ "$(cat answer)" = 1 ]
	[ "$(http GET)" = 1 ]
}

test_counter_server_has_metrics() {
	start counter "$bin/counter_server" counter.txt
	http POST >answer
	http POST >answer
	http GET /metrics >metrics
	grep -qx 'filelock_answers_total{result="granted"} 2' metrics
	grep -qx 'filelock_wait_seconds_bucket{le="+Inf"} 2' metrics
	[ "$(http GET)" = 2 ]
}

test_counter_server_outlives_a_client_that_leaves_while_it_waits() {
	start counter "$bin/counter_server" counter.txt
	hold flock counter.txt.lock
	http POST &
	local client=$!
	await waits_in_loop "$pid"
	kill $client
	ended_with 143 $client
	let_go
	[ "$(http POST)" -ge 1 ]
	kill "$pid"
	ended_with 0 "$pid"
}

test_counter_server_ends_cleanly_while_a_client_waits() {
	start counter "$bin/counter_server" counter.txt
	hold flock counter.txt.lock
	http POST &
	await waits_in_loop "$pid"
	kill "$pid"
	ended_with 0 "$pid"
	let_go
	[ ! -s counter.txt ]
}

# A port that nothing listens on now.
free_port() {
	start unused "$bin/existing_app" unused.txt
	kill "$pid"
	ended_with 0 "$pid"
	rm unused.port
}

# says FILE LINE: the program has printed that line.
says() { grep -qx "$2" "$1" 2>/dev/null; }

# The time is printed, and no limit is set to it.
test_standby_goes_live_when_the_active_server_is_killed() {
	local active standby answer since
	free_port
	"$bin/standby" l "$port" >active &
	active=$!
	await says active live
	[ "$(cat l.pid)" = $active ]
	"$bin/standby" l "$port" >standby &
	standby=$!
	await says standby 'standing by'
	await waits_in_loop $standby
	exec 9<>"/dev/tcp/127.0.0.1/$port"
	read -r answer <&9
	[ "$answer" = $active ]
	since=$(date +%s%N)
	kill -9 $active
	await says standby live
	echo "live after $((($(date +%s%N) - since) / 1000000)) ms"
	ended_with 137 $active
	[ "$(cat l.pid)" = $standby ]
	exec 9<>"/dev/tcp/127.0.0.1/$port"
	read -r answer <&9
	[ "$answer" = $standby ]
	kill $standby
	ended_with 0 $standby
}

# Another program listens there.
test_standby_waits_for_a_port_that_outlives_the_lock() {
	start app "$bin/existing_app" lines.txt
	local app=$pid
	"$bin/standby" l "$port" >output &
	local server=$!
	await test -e l.pid
	status_is 1 flock -n l true
	status_is 1 says output live
	kill "$app"
	ended_with 0 "$app"
	await says output live
	kill $server
	ended_with 0 $server
}

test_standby_ends_when_its_lock_file_is_removed() {
	free_port
	"$bin/standby" l "$port" >output 2>message &
	local server=$!
	await says output live
	rm l
	ended_with 1 $server
	grep -q 'no longer names' message
}

test_lock_stays_locked_while_it_is_handed_over() {
	mkfifo input
	exec 9<>input
	"$bin/handed_over" l <input >output 9<&-
	await grep -q '^child [0-9]* has the lock$' output
	status_is 1 flock -n l true
	exec 9>&-
	status_is 0 flock -w $patience l true
}

# tell FD LINE ANSWER
tell() {
	local answer
	echo "$2" >&"$1"
	read -r answer <&"$1"
	[ "$answer" = "$3" ] || fail "$2: $answer, not $3"
}

test_lock_service_locks_for_clients_of_all_threads() {
	local clients=() fd i
	mkdir locks
	start service "$bin/lock_service" locks
	for i in 1 2 3 4 5 6 7 8; do
		exec {fd}<>"/dev/tcp/127.0.0.1/$port"
		clients+=("$fd")
	done
	tell "${clients[0]}" "lock a" "held a"
	tell "${clients[0]}" "try b" "held b"
	status_is 1 flock -n locks/a.lock true
	for i in 1 2 3 4 5 6; do
		tell "${clients[i]}" "try a" "busy a"
		tell "${clients[i]}" "lock c$i" "held c$i"
	done
	echo "lock a" >&"${clients[7]}"
	tell "${clients[0]}" "unlock a" "free a"
	read -r answer <&"${clients[7]}"
	[ "$answer" = "held a" ]
	tell "${clients[0]}" "unlock a" "error Operation not permitted"
	tell "${clients[0]}" "lock ../x" "error Invalid argument"
	tell "${clients[7]}" "lock a" "error this client has it, or waits for it"
	fd=${clients[7]}
	exec {fd}>&- # leaves with its lock
	tell "${clients[1]}" "lock a" "held a"
	kill "$pid"
	ended_with 0 "$pid"
	status_is 0 flock -n locks/a.lock true
}

test_lock_service_forgets_a_client_that_leaves_while_it_waits() {
	mkdir locks
	start service "$bin/lock_service" locks
	hold flock locks/a.lock
	exec 8<>"/dev/tcp/127.0.0.1/$port"
	echo "lock a" >&8
	await waits_in_loop "$pid"
	exec 8>&-
	exec 8<>"/dev/tcp/127.0.0.1/$port"
	tell 8 "try a" "busy a"
	let_go
	tell 8 "lock a" "held a"
	kill "$pid"
	ended_with 0 "$pid"
}

test_timeline_marks_what_clashes() {
	printf '%s\n' '1 1000000 2000000 9000000 X' '2 1000000 8000000 9500000 X' \
		'2 1000000 9600000 9700000 X' >trace
	"$bin/timeline" -t 'A < B & C' 'two of three=trace' >svg 2>facts
	[ "$(cat facts)" = "requests 3 median 7000 p99 8600 longest 8600 inside 2 clashes 2" ]
	grep -q 'A &#60; B &#38; C' svg
	grep -q '#d62728' svg
}

test_timeline_lets_readers_overlap() {
	printf '%s\n' '1 1000000 2000000 9000000 S' '2 1000000 3000000 9500000 S' >trace
	"$bin/timeline" readers=trace >svg 2>facts
	grep -q 'inside 2 clashes 0$' facts
}

test_timeline_refuses_what_is_no_trace() {
	echo 'nonsense' >trace
	status_is 1 "$bin/timeline" a=trace 2>message
	status_is 1 "$bin/timeline" a=missing 2>message
	status_is 2 "$bin/timeline" 2>message
}

# Each thing that begins has its end; two of the six give up.
test_traced_writes_a_trace_that_viewers_can_open() {
	"$bin/traced" t.json 2>message >output
	[ "$(grep -c 'not come free in time' message)" = 2 ]
	[ "$(head -n 1 t.json)" = '[' ]
	[ "$(tail -n 1 t.json)" = ']' ]
	[ "$(sed '1d;$d' t.json | grep -cvE '^\{.*\},?$')" = 0 ]
	[ "$(grep -c '"name":"thread_name"' t.json)" = 2 ]
	[ "$(grep -c '"ph":"b".*"cat":"waiting"' t.json)" = 6 ]
	[ "$(grep -c '"ph":"e".*"cat":"waiting"' t.json)" = 6 ]
	[ "$(grep -c '"ph":"b".*"cat":"held"' t.json)" = 4 ]
	[ "$(grep -c '"ph":"e".*"cat":"held"' t.json)" = 4 ]
	if command -v python3 >/dev/null; then python3 -m json.tool t.json >/dev/null; fi
}

test_traced_says_what_went_wrong() {
	status_is 1 "$bin/traced" missing/t.json 2>message
	grep -q missing/t.json message
}

test_usage_errors_are_told() {
	for example in existing_app counter_server counter_load standby lock_service handed_over; do
		status_is 2 "$bin/$example" 2>message
		grep -q '^usage: ' message
	done
	status_is 2 "$bin/counter_server" -k nonsense c 2>message
	status_is 2 "$bin/counter_server" -p 65536 c 2>message
}

run_claims "$@"
