package api

// transport carries the frames of one connection to its client.
type transport interface {
	// send takes a frame, to be written after all those before it, and does not block: connection.sent is called when it
	// has been written. No more than inFlightMost are given at a time. An error says that the transport has ended, and
	// that disconnected has been called or will be. The connection's lock is held.
	send(f frame) error
	// end tells the client why it is sent away, as the last thing that it gets. All frames have been written. It may take
	// closeGrace at the most.
	end(why *problem)
	// cut ends the transport, whatever its client is doing. It does not block, and may be called again.
	cut()
}
