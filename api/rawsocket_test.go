package api_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// rawSocket is a WebSocket without a library: what the test sends is what goes over the wire, and what comes is told as
// it came. It answers nothing by itself, neither pings nor close frames.
type rawSocket struct {
	net.Conn

	w      *world
	header http.Header // of the handshake's answer
	came   chan string // what said makes of each frame; closed at the end
	end    error       // why came is closed: nil if the server closed the connection in good order
}

// dialRaw connects a user, with some lines more, and takes the frame ready.
func (w *world) dialRaw(user string, lines ...string) *rawSocket {
	w.Helper()
	conn, err := w.dialer(w.Context(), "", "")
	if err != nil {
		w.Fatalf("connect: %v", err)
	}
	s := &rawSocket{Conn: conn, w: w, came: make(chan string, 1<<10)}
	w.Cleanup(func() { _ = conn.Close() })
	s.write([]byte(upgradeRequest("/events?snapshot=0", append(lines, "Authorization: Bearer "+w.token(user))...)))
	from := bufio.NewReader(conn)
	response, err := http.ReadResponse(from, nil)
	if err != nil {
		w.Fatalf("read the handshake's answer: %v", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols {
		w.Fatalf("got %s, want 101", response.Status)
	}
	s.header = response.Header
	go s.read(from)
	s.expect("reelay.ready")
	return s
}

// write sends bytes, for as long as the server takes them.
func (s *rawSocket) write(p []byte) { _, _ = s.Conn.Write(p) }

// read reads all frames there are to come.
func (s *rawSocket) read(from *bufio.Reader) {
	defer close(s.came)
	for {
		said, err := readSaid(from)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, net.ErrClosed) {
				s.end = err
			}
			return
		}
		s.came <- said
	}
}

// readSaid reads one frame of a server, and tells what it says. A frame that a server may not send is an error.
func readSaid(from *bufio.Reader) (string, error) {
	var header [2]byte
	if _, err := io.ReadFull(from, header[:]); err != nil {
		return "", err
	}
	length := uint64(header[1] & 0x7f)
	more := map[uint64]int{126: 2, 127: 8}[length]
	wide := make([]byte, 8)
	if _, err := io.ReadFull(from, wide[8-more:]); err != nil {
		return "", unexpected(err)
	}
	if more > 0 {
		length = binary.BigEndian.Uint64(wide)
	}
	if header[1]&masked != 0 || length > 1<<22 {
		return "", fmt.Errorf("a frame that begins with %x", header)
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(from, payload); err != nil {
		return "", unexpected(err)
	}
	switch header[0] {
	case final | text:
		f := parse(payload)
		said := f.Type
		for _, name := range []string{"code", "ref"} {
			if value := f.field(name); value != "" {
				said += " " + value
			}
		}
		return said, nil
	case final | ping:
		return fmt.Sprintf("ping %q", payload), nil
	case final | pong:
		return fmt.Sprintf("pong %q", payload), nil
	case final | closing:
		return saidClose(payload)
	}
	return "", fmt.Errorf("a frame that begins with %x", header)
}

func saidClose(payload []byte) (string, error) {
	switch len(payload) {
	case 0:
		return "close", nil
	case 1:
		return "", fmt.Errorf("a close frame with half a code: %x", payload)
	}
	said := fmt.Sprint("close ", binary.BigEndian.Uint16(payload))
	if len(payload) > 2 {
		said += " " + string(payload[2:])
	}
	return said, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// expect checks what comes next, in order. What begins with a question mark may be missing.
func (s *rawSocket) expect(want ...string) {
	s.w.Helper()
	for len(want) > 0 {
		one, optional := strings.CutPrefix(want[0], "?")
		want = want[1:]
		select {
		case got, open := <-s.came:
			if optional && got != one {
				one, want = want[0], want[1:]
			}
			if !open {
				s.w.Fatalf("waiting for %s: the connection ended with %v", one, s.end)
			}
			if got != one {
				s.w.Fatalf("got %s, want %s", got, one)
			}
		case <-time.After(patience):
			s.w.Fatalf("waiting for %s: nothing came", one)
		}
	}
}

// expectEnd checks that the server closes the connection next, and how long that takes at most.
func (s *rawSocket) expectEnd(within time.Duration) {
	s.w.Helper()
	select {
	case got, open := <-s.came:
		if open {
			s.w.Fatalf("got %s, want the end", got)
		}
		if s.end != nil && !errors.Is(s.end, syscall.ECONNRESET) && !errors.Is(s.end, os.ErrDeadlineExceeded) {
			s.w.Fatalf("the connection ended with %v", s.end)
		}
	case <-time.After(within):
		s.w.Fatalf("the connection is still open after %v", within)
	}
}

// remask returns frames with another mask, as far as they can be told apart.
func remask(frames []byte, key [4]byte) []byte {
	all := append([]byte(nil), frames...)
	for rest := all; len(rest) >= 2; {
		size := 2 + map[byte]int{126: 2, 127: 8}[rest[1]&0x7f]
		if len(rest) < size+4 || rest[1]&masked == 0 {
			break
		}
		length := uint64(rest[1] & 0x7f)
		if size > 2 {
			length = 0
			for _, b := range rest[2:size] {
				length = length<<8 | uint64(b)
			}
		}
		copy(rest[size:], key[:])
		payload := rest[size+4:]
		payload = payload[:min(length, uint64(len(payload)))]
		for i := range payload {
			payload[i] ^= key[i%4]
		}
		rest = rest[size+4+len(payload):]
	}
	return all
}
