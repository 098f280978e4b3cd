package api

import (
	"encoding/binary"

	"github.com/gorilla/websocket"
)

// reworded returns what to write in place of p, which is what the library writes at once. The reason of a close frame
// is the code of a problem, which is stable and what programs branch on; those that the library sends of its own
// accord have words of its own, or none. It returns nil where p is to stay as it is.
func (w *wire) reworded(p []byte) []byte {
	// A part of an event can begin so by chance, but not go on with a code: no JSON text contains control characters.
	if len(p) < 4 || p[0] != finalClose || int(p[1]) != len(p)-2 {
		return nil
	}
	var why *problem
	switch code, reason := binary.BigEndian.Uint16(p[2:]), p[4:]; {
	case code == closeProtocol && len(reason) > 0:
		why = errProtocol
	case code == closeTooBig && len(reason) == 0 && !w.closed: // closed: it is the client's own code, sent back
		why = errTooBig
	default:
		return nil
	}
	message := websocket.FormatCloseMessage(why.Close, why.Code)
	return append([]byte{finalClose, byte(len(message))}, message...)
}
