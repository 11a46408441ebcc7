(* A peer for probe.c: OCaml's Unix.lockf on one path. locks PATH *)
let file = ref Unix.stdin

let take () =
  file := Unix.openfile Sys.argv.(1) [ Unix.O_RDWR; Unix.O_CREAT ] 0o666;
  try
    Unix.lockf !file Unix.F_TLOCK 0;
    "held"
  with Unix.Unix_error (error, _, _) -> "busy Unix_error: " ^ Unix.error_message error

let obey = function
  | "take" -> take ()
  | "unlock" ->
      Unix.lockf !file Unix.F_ULOCK 0;
      "done"
  | _ ->
      Unix.close !file;
      "done"

let () =
  try
    while true do
      print_endline (obey (input_line stdin))
    done
  with End_of_file -> ()
