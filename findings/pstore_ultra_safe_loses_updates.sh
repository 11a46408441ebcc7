#!/usr/bin/env bash
# Ruby's PStore: a transaction holds an flock(2) on the store's file, so that two processes that count
# in it count both. With ultra_safe, which is to prevent damage, a transaction ends by renaming a
# new file over the old one. Who waited for the lock then holds that of the old file, reads what stood there
# before, and overwrites what the first one has written.
#
# Expected: two transactions that each add one make two, with ultra_safe or without.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/unpack" "$work" bookworm ruby3.1=3.1.2-7+deb12u1 libruby3.1=3.1.2-7+deb12u1
libraries=$work/usr/lib/x86_64-linux-gnu
ruby=("$work/usr/bin/ruby3.1" --disable-gems)
export RUBYLIB=$work/usr/lib/ruby/3.1.0:$libraries/ruby/3.1.0
cd "$work"
echo "version: $(LD_LIBRARY_PATH=$libraries "${ruby[@]}" --version | cut -d ' ' -f 1,2)"

cat >add.rb <<'END'
require "pstore"

store = PStore.new("store")
store.ultra_safe = ARGV[0] == "ultra_safe"
store.transaction do
  store[:count] = store.fetch(:count, 0) + 1
  if ARGV[1] == "slowly"
    puts "inside"
    $stdout.flush
    $stdin.gets
  end
end
END
cat >make.rb <<'END'
require "pstore"
PStore.new("store").transaction { |store| store[:count] = 0 }
END
cat >read.rb <<'END'
require "pstore"
puts PStore.new("store").transaction(true) { |store| store[:count] }
END

# The second transaction begins inside the first, and waits for it.
count() { # plain|ultra_safe
	local second
	rm -f store go inside
	mkfifo go inside
	LD_LIBRARY_PATH=$libraries "${ruby[@]}" make.rb
	LD_LIBRARY_PATH=$libraries "${ruby[@]}" add.rb "$1" slowly <go >inside &
	exec 3>go 4<inside
	read -r _ <&4
	LD_LIBRARY_PATH=$libraries "${ruby[@]}" add.rb "$1" at_once 3>&- 4<&- &
	second=$!
	until grep -q -- "-> FLOCK .* $second " /proc/locks; do
		kill -0 "$second"
		sleep 0.05
	done
	echo >&3
	wait
	exec 3>&- 4<&-
	LD_LIBRARY_PATH=$libraries "${ruby[@]}" read.rb
}

seen="plain: $(count plain); ultra_safe: $(count ultra_safe)"
echo "expected: plain: 2; ultra_safe: 2"
echo "seen:     $seen"
[ "$seen" = "plain: 2; ultra_safe: 1" ] || {
	echo "changed: it was 'plain: 2; ultra_safe: 1'"
	exit 1
}
