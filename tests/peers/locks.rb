# A peer for probe.c: Ruby's File#flock on one path. locks.rb PATH
$stdout.sync = true
file = nil
$stdin.each_line(chomp: true) do |order|
  case order
  when 'take'
    file = File.open(ARGV[0], File::RDWR | File::CREAT)
    taken = file.flock(File::LOCK_EX | File::LOCK_NB)
    puts taken ? 'held' : "busy flock returns #{taken.inspect}"
  when 'unlock'
    file.flock(File::LOCK_UN)
    puts 'done'
  else
    file.close
    puts 'done'
  end
end
