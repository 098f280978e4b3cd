package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is the unit of the times in /proc/PID/stat: USER_HZ, 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// cpuOf returns how long all threads of a process have run, those that have ended included; 0 if it is gone.
func cpuOf(pid int) time.Duration {
	// The clock of another process (clock_getcpuclockid(3)): /proc knows no better than 10 ms.
	const allThreads = 2 // CPUCLOCK_SCHED, without CPUCLOCK_PERTHREAD
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|allThreads), &at); err != nil {
		return 0
	}
	return time.Duration(at.Nano())
}

// familyCPU returns how long a process and its children have run, those that have ended included.
func familyCPU(pid int) time.Duration {
	total := cpuOf(pid)
	if s, ok := statOf(pid); ok {
		total += s.ended
	}
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is a good one
	for _, file := range files {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		if s, ok := statOf(child); ok && s.parent == pid {
			total += cpuOf(child)
		}
	}
	return total
}

// stat is what /proc/PID/stat says of a process.
type stat struct {
	parent int
	ended  time.Duration // CPU of its children that have ended
}

func statOf(pid int) (s stat, ok bool) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false // it has ended
	}
	// pid (name) state parent …, where the name may hold anything, brackets and spaces too.
	fields := bytes.Fields(content[bytes.LastIndexByte(content, ')')+1:])
	if len(fields) < 15 {
		return stat{}, false
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(string(fields[i]), 10, 64) // the kernel writes numbers
		return n
	}
	// proc(5) counts fields from 1, and the third is the first here: parent is its 4th, cutime and cstime its 16th and 17th.
	return stat{parent: int(number(1)), ended: time.Duration(number(13)+number(14)) * clockTick}, true
}
