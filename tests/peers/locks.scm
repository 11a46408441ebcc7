;; A peer for probe.c: Guile's flock on one path. locks.scm PATH
(use-modules (ice-9 rdelim))
(define port #f)
(define (answer words) (display words) (newline) (force-output))
(define (take)
  (set! port (open-file (cadr (command-line)) "a+"))
  (catch 'system-error
    (lambda () (flock port (logior LOCK_EX LOCK_NB)) "held")
    (lambda arguments
      (string-append "busy system-error: " (strerror (system-error-errno arguments))))))
(let loop ((line (read-line)))
  (unless (eof-object? line)
    (cond ((string=? line "take") (answer (take)))
          ((string=? line "unlock") (flock port LOCK_UN) (answer "done"))
          (else (close-port port) (answer "done")))
    (loop (read-line))))
