# A peer for probe.c: the package filelock of R on one path. locks.R PATH
path <- commandArgs(trailingOnly = TRUE)[1]
input <- file("stdin", "r")
while (length(line <- readLines(input, 1)) > 0) {
  if (line == "take") {
    lock <- filelock::lock(path, timeout = 0)
    cat(if (is.null(lock)) "busy lock() returns NULL" else "held", "\n", sep = "")
  } else if (line == "unlock") {
    cat("cannot\n")
  } else {
    filelock::unlock(lock)
    cat("done\n")
  }
  flush(stdout())
}
