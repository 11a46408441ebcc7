# Completions of filelock(1) for bash: options, kinds, signals, the lock file, and then a command.
# shellcheck shell=bash

# The index of the lock file among the words, or of the word at the cursor if none stands before it.
_filelock_file() {
	local i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-w | --wait | --timeout | -E | --conflict-exit-code | -k | --kind | -a | --also | --endpoints | --timeout-signal | --break-claim)
			i=$((i + 1))
			;;
		--)
			i=$((i + 1))
			break
			;;
		-*) ;;
		*) break ;;
		esac
	done
	echo "$i"
}

_filelock() {
	local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} file
	file=$(_filelock_file)
	COMPREPLY=()
	if [ "$COMP_CWORD" -gt "$((file + 1))" ]; then
		if declare -F _command_offset >/dev/null; then _command_offset "$((file + 1))"; fi
		return
	fi
	if [ "$COMP_CWORD" = "$((file + 1))" ]; then
		mapfile -t COMPREPLY < <(compgen -c -- "$word")
		return
	fi
	case $previous in
	-k | --kind)
		mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" --help | sed -n 's/^Kinds: //p' |
			tr -d ,)" -- "$word")
		return
		;;
	--timeout-signal)
		mapfile -t COMPREPLY < <(compgen -W "HUP INT QUIT KILL TERM USR1 USR2 ALRM CONT STOP" -- "$word")
		return
		;;
	-w | --wait | --timeout | -E | --conflict-exit-code | --endpoints | --break-claim) return ;;
	esac
	case $word in
	-*)
		mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" --help | grep -oE -- '--[a-z-]+')" \
			-- "$word")
		;;
	*) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
	esac
}

complete -o filenames -F _filelock filelock
