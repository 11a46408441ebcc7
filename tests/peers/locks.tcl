# A peer for probe.c: TclX's flock on one path. locks.tcl PATH
package require Tclx
fconfigure stdout -buffering line
while {[gets stdin order] >= 0} {
	switch $order {
	take {
		set file [open [lindex $argv 0] a+]
		if {[flock -write -nowait $file]} { puts held } else { puts "busy flock returns 0" }
	}
	unlock {
		funlock $file
		puts done
	}
	default {
		close $file
		puts done
	}
	}
}
