#!/usr/bin/env bash
# systemd-tmpfiles 252 (Debian 12): its cleaner spares an old folder on which somebody holds an
# flock(2), as tmpfiles.d(5) says. An old file on which somebody holds an flock(2) is removed: a
# lock file goes away under its holder.
#
# Expected: what is locked is spared, folder or file.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/unpack" "$work" bookworm systemd=252.39-1~deb12u2 libsystemd-shared=252.39-1~deb12u2
tmpfiles() {
	LD_LIBRARY_PATH=$work/usr/lib/x86_64-linux-gnu/systemd "$work/bin/systemd-tmpfiles" "$@"
}
echo "version: $(tmpfiles --version | head -n 1)"

mkdir -p "$work/cleaned/folder" "$work/cleaned/locked_folder"
touch "$work/cleaned/file" "$work/cleaned/locked_file"
touch -d '-3 days' "$work/cleaned"/*
exec 8<"$work/cleaned/locked_file" 9<"$work/cleaned/locked_folder"
flock 8
flock 9
echo "d $work/cleaned 0755 - - mM:1d" >"$work/rules.conf" # by the times of modification alone
tmpfiles --clean "$work/rules.conf"
seen="left: $(find "$work/cleaned" -mindepth 1 -printf '%f\n' | sort | paste -s -d ' ')"
echo "expected: left: locked_file locked_folder"
echo "seen:     $seen"
[ "$seen" = "left: locked_folder" ] || {
	echo "changed: it was 'left: locked_folder'"
	exit 1
}
