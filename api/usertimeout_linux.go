package api

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnanswered has the kernel give up a connection whose peer acknowledges nothing for pongLimit. A client of an event
// stream never answers, so that one whose host has vanished would be noticed after a quarter of an hour.
func limitUnanswered(conn net.Conn) {
	tcp, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	// Without it all works, and the dead are kept for longer.
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(pongLimit.Milliseconds()))
	})
}
