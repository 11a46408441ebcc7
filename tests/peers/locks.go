// A peer for probe.c: Go's syscall.Flock, as its own go command uses it, on one path. locks.go PATH
package main

import (
	"bufio"
	"fmt"
	"os"
	"syscall"
)

func main() {
	var file *os.File
	var err error
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		switch lines.Text() {
		case "take":
			file, err = os.OpenFile(os.Args[1], os.O_RDWR|os.O_CREATE, 0666)
			if err == nil {
				err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
			}
			if err != nil {
				fmt.Println("busy", err)
			} else {
				fmt.Println("held")
			}
		case "unlock":
			syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
			fmt.Println("done")
		default:
			file.Close()
			fmt.Println("done")
		}
	}
}
