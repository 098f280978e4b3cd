package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// spareFiles is how many files a process with many clients has open beside their sockets, at the most.
const spareFiles = 256

// openFiles returns how many files this process, and each that it starts, may open. It raises that to what is needed,
// where it may: Go has taken all that is to be had without being asked for, but root may have more.
func openFiles(needed int) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return needed // it shows when they are opened
	}
	if wanted := uint64(needed); limit.Cur < wanted {
		raised := syscall.Rlimit{Cur: wanted, Max: max(wanted, limit.Max)}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			return needed
		}
	}
	return int(min(limit.Cur, 1<<30))
}

// fit makes no crowd larger than this machine lets it be, and says so in a note; "" where all fit.
func (o *options) fit() (note string) {
	var fitting []int
	for _, n := range o.sizes {
		most := max(1, openFiles(n+spareFiles)-spareFiles)
		if n > most {
			note = fmt.Sprintf("Not %s connections: a process may open no more than %s files here (ulimit -Hn).",
				grouped(strconv.Itoa(n)), grouped(strconv.Itoa(most+spareFiles)))
			n = most
		}
		if len(fitting) == 0 || fitting[len(fitting)-1] != n {
			fitting = append(fitting, n)
		}
	}
	o.sizes = fitting
	return note
}

// sizes is a flag: numbers of connections, with commas between.
type sizes []int

func (s *sizes) String() string {
	var all []string
	for _, n := range *s {
		all = append(all, strconv.Itoa(n))
	}
	return strings.Join(all, ",")
}

// Set takes the place of the default.
func (s *sizes) Set(text string) error {
	var all []int
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 {
			return errors.New("numbers of connections are wanted, at least 1, with commas between")
		}
		all = append(all, n)
	}
	*s = all
	return nil
}
