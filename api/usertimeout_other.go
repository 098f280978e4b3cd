//go:build !linux

package api

import "net"

// limitUnanswered does nothing: other systems have no such limit, or another one.
func limitUnanswered(net.Conn) {}
