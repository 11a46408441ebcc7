#!/usr/bin/env bash
# locks.bash WAY PATH: a peer for probe.c: commands that lock one path.
way=$1 path=$2
log=$(mktemp)
trap 'rm -f "$log"' EXIT

busy() { # STATUS: with the words of the command
	local words
	words=$(head -n 1 "$log")
	echo "busy exit status $1${words:+; ${words//"$path"/PATH}}"
}

attempt() { # COMMAND...
	local status=0
	"$@" >"$log" 2>&1 </dev/null || status=$?
	if [ "$status" = 0 ]; then echo held; else busy "$status"; fi
}

let_go() { # COMMAND...
	if "$@" >"$log" 2>&1; then echo "done"; else busy $?; fi
}

flock_take() { exec 9>>"$path" && attempt flock -n 9; }
flock_unlock() { let_go flock -u 9; }
flock_close() { exec 9>&- && echo "done"; }

fcntl_take() { exec 9>>"$path" && attempt flock --fcntl -n 9; }
fcntl_unlock() { let_go flock --fcntl -u 9; }
fcntl_close() { exec 9>&- && echo "done"; }

# a stale one is taken away at the second look, and taken at the third
dotlockfile_take() { attempt dotlockfile -l -r 2 -i 1 "$path"; }
dotlockfile_close() { let_go dotlockfile -u "$path"; }
# this shell's pid, which lives
dotlockfile_p_take() { attempt dotlockfile -l -p -r 2 -i 1 "$path"; }
dotlockfile_p_close() { let_go dotlockfile -u "$path"; }

lockfile_take() { attempt lockfile -r 0 "$path"; }
lockfile_close() { let_go rm -f "$path"; }

lockfile_create_take() { attempt lockfile-create --retry 2 --lock-name "$path"; }
lockfile_create_close() { let_go lockfile-remove --lock-name "$path"; }

# PATH is the index.lock of a repository: the commit waits in its editor, which says so
git_take() {
	local repository=${path%/.git/index.lock} said
	[ -d "$repository/.git/objects" ] || git -c init.defaultBranch=main init -q "$repository"
	mkfifo "$log.in" "$log.out"
	{
		GIT_EDITOR="sh -c 'echo held >$log.in; cat $log.out >\"\$1\"' -" \
			git -C "$repository" -c user.name=nobody -c user.email=nobody@localhost \
			commit --all --allow-empty >"$log" 2>&1 </dev/null || true
		echo ended >"$log.in"
	} &
	read -r said <"$log.in"
	if [ "$said" = held ]; then echo held; else rm "$log.in" "$log.out"; busy 128; fi
}
git_close() {
	echo message >"$log.out"
	read -r _ <"$log.in"
	rm "$log.in" "$log.out"
	echo "done"
}

while read -r order; do
	if declare -F "${way}_$order" >/dev/null; then "${way}_$order"; else echo cannot; fi
done
