<?php
// A peer for probe.c: PHP's flock() on one path. locks.php PATH
$file = null;
while (($line = fgets(STDIN)) !== false) {
	switch (trim($line)) {
	case 'take':
		$file = fopen($argv[1], 'c+');
		$taken = flock($file, LOCK_EX | LOCK_NB, $would_block);
		echo $taken ? "held\n" : "busy flock() returns false; would_block is $would_block\n";
		break;
	case 'unlock':
		flock($file, LOCK_UN);
		echo "done\n";
		break;
	default:
		fclose($file);
		echo "done\n";
	}
}
