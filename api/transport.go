package api

// transport carries the frames of one connection to its client.
type transport interface {
	// write writes a load, in as few parts as it can, and returns when the client's socket has taken it. It is called by
	// one goroutine at a time, which calls l.stall before it waits for the client. An error says that nothing can be written any more, and that the transport ends, or is cut.
	write(l *load) error
	// cut ends the transport, whatever its client is doing. It does not block, and may be called again.
	cut()
}
