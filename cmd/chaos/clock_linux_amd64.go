package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockOff is by how much a clock is set wrong, forward or backward.
const clockOff = 10 * time.Minute

// setClock makes one running process read a wall clock that is off; its monotonic clock goes on as before. restore makes
// it right again.
//
// A library to be preloaded, as there is for this, cannot do it: a Go program does not ask libc for the time but the
// vDSO, a page of code that the kernel puts into each process. So that code is replaced, in this process's copy of it,
// by a system call and an addition.
func setClock(ctx context.Context, pid int, off time.Duration) (restore func() error, err error) {
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: set a process's clock: %w", errSkipped, err)
	}
	defer func() { _ = memory.Close() }()
	at, err := clockFunction(pid, memory)
	if err != nil {
		return nil, fmt.Errorf("%w: set a process's clock: %w", errSkipped, err)
	}
	code := wrongClock(off)
	before := make([]byte, len(code))
	if _, err := memory.ReadAt(before, at); err != nil {
		return nil, fmt.Errorf("%w: set a process's clock: %w", errSkipped, err)
	}
	if err := patch(ctx, pid, at, code); err != nil {
		return nil, fmt.Errorf("%w: set a process's clock: %w", errSkipped, err)
	}
	return func() error { return patch(ctx, pid, at, before) }, nil
}

// wrongClock is int clock_gettime(int clock, struct timespec *time) that adds to the seconds of the wall clock.
func wrongClock(off time.Duration) []byte {
	seconds := binary.LittleEndian.AppendUint32(nil, uint32(int32(off/time.Second)))
	return bytes.Join([][]byte{
		{0xb8, 228, 0, 0, 0},        // mov eax, 228: the system call of that name
		{0x0f, 0x05},                // syscall
		{0x85, 0xff},                // test edi, edi: is it clock 0, CLOCK_REALTIME?
		{0x75, 0x07},                // jne to the end
		{0x48, 0x81, 0x06}, seconds, // add qword [rsi], seconds
		{0xc3}, // ret
	}, nil)
}

// clockFunction finds clock_gettime in the vDSO of a process.
func clockFunction(pid int, memory io.ReaderAt) (int64, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		var from, to int64
		if _, err := fmt.Sscanf(line, "%x-%x ", &from, &to); err != nil {
			return 0, fmt.Errorf("read %q: %w", line, err)
		}
		image := make([]byte, to-from)
		if _, err := memory.ReadAt(image, from); err != nil {
			return 0, err
		}
		file, err := elf.NewFile(bytes.NewReader(image))
		if err != nil {
			return 0, err
		}
		symbols, err := file.DynamicSymbols()
		if err != nil {
			return 0, err
		}
		for _, symbol := range symbols {
			if symbol.Name == "__vdso_clock_gettime" {
				return from + int64(symbol.Value), nil
			}
		}
	}
	return 0, errors.New("it has no vDSO")
}

// patch writes code into a process while it stands, and while no thread of it stands within that code.
func patch(ctx context.Context, pid int, at int64, code []byte) error {
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = memory.Close() }()
	for range 100 {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
		err := until(ctx, 5*time.Second, "the process stands still", func() bool { return stopped(pid) })
		safe := err == nil && !within(pid, at, at+int64(len(code)))
		if safe {
			_, err = memory.WriteAt(code, at)
		}
		if err := errors.Join(err, syscall.Kill(pid, syscall.SIGCONT)); err != nil || safe {
			return err
		}
	}
	return errors.New("some thread always reads the clock")
}

// within says whether a thread of a process that stands still would go on between two addresses.
func within(pid int, from, to int64) bool {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return true
	}
	for _, task := range tasks {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", pid, task.Name()))
		if err != nil {
			return true
		}
		// The last word is the program counter.
		_, counter, _ := cutLast(strings.TrimSpace(string(state)), " ")
		address, err := strconv.ParseInt(strings.TrimPrefix(counter, "0x"), 16, 64)
		if err != nil || address >= from && address < to {
			return true
		}
	}
	return false
}
