# A peer for probe.c: Perl's locks on one path. locks.pl WAY PATH
use strict;
use warnings;
use Fcntl qw(:flock);
$| = 1;

my ($way, $path) = @ARGV;
my ($file, $lock);

sub take {
    if ($way eq "LockFile::Simple") {
        require LockFile::Simple;
        my $manager = LockFile::Simple->make(-format => '%f', -max => 1, -delay => 1,
            -wfunc => undef, -efunc => undef, -autoclean => 0);
        $lock = $manager->trylock($path);
        return $lock ? "held" : "busy trylock() returns undef";
    }
    if ($way eq "File::NFSLock") {
        require File::NFSLock;
        no warnings 'once';
        # with its own default, an hour
        $lock = File::NFSLock->new({ file => $path =~ s/\.NFSLock$//r,
            lock_type => LOCK_EX | LOCK_NB, stale_lock_timeout => 60 * 60 });
        return $lock ? "held" : "busy new() returns undef; $File::NFSLock::errstr";
    }
    open $file, '+>>', $path or die $!;
    if ($way eq "flock") {
        return flock($file, LOCK_EX | LOCK_NB) ? "held" : "busy flock() returns false; $!";
    }
    require File::FcntlLock;
    $lock = File::FcntlLock->new(l_type => Fcntl::F_WRLCK(), l_whence => 0, l_start => 0, l_len => 0);
    return $lock->lock($file, Fcntl::F_SETLK()) ? "held" : "busy lock() returns undef; $!";
}

sub unlock {
    return "cannot" unless $way eq "flock";
    return flock($file, LOCK_UN) ? "done" : "failed $!";
}

sub let_go {
    if ($way eq "LockFile::Simple") { $lock->release } elsif ($way eq "File::NFSLock") { $lock->unlock }
    else { close $file }
    undef $lock;
    return "done";
}

while (my $order = <STDIN>) {
    chomp $order;
    my $answer = $order eq "take" ? take() : $order eq "unlock" ? unlock() : let_go();
    $answer =~ s/\n.*//s;
    print "$answer\n";
}
