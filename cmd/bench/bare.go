package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/deploy/local"
)

// bareCommand makes this program a bare server: it upgrades whoever comes, and writes to them all when it is told to. It
// does nothing else, so that nothing that delivers can be much cheaper.
const bareCommand = "bare-gorilla-writer"

// bare is such a server, as a process beside the gateways.
type bare struct {
	process *local.Process
	address string
}

func startBare(ctx context.Context) (*bare, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	b := &bare{address: freeAddress()}
	b.process, err = local.StartProcess(local.Command{Name: "bare", Path: self, Args: []string{bareCommand, b.address}})
	if err != nil {
		return nil, err
	}
	up := func() bool { _, err := fetch(ctx, "http://"+b.address+"/"); return err == nil }
	if err := until(ctx, "the bare server answers", up); err != nil {
		return nil, errors.Join(err, b.stop(ctx))
	}
	return b, nil
}

func (b *bare) stop(ctx context.Context) error {
	return b.process.Stop(context.WithoutCancel(ctx))
}

// write has the server write to all its sockets, again and again for a time. It returns how often it has written to
// each user's.
func (b *bare) write(ctx context.Context, d time.Duration) (rounds map[string]int64, err error) {
	body, err := fetchLong(ctx, "http://"+b.address+"/write?for="+d.String())
	if err != nil {
		return nil, err
	}
	return rounds, json.Unmarshal([]byte(body), &rounds)
}

// sockets returns how many the server has.
func (b *bare) sockets(ctx context.Context) (int, error) {
	body, err := fetch(ctx, "http://"+b.address+"/sockets")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(body)
}

// teller returns a socket by which the server is told of commits.
func (b *bare) teller(ctx context.Context) (*websocket.Conn, error) {
	conn, response, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+b.address+"/tell", nil)
	if err != nil {
		return nil, fmt.Errorf("connect to tell of commits: %w", err)
	}
	_ = response.Body.Close()
	return conn, nil
}

// bareServe is the server's whole life.
func bareServe(ctx context.Context, address string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for sockets: %w", err)
	}
	w := &bareWriter{upgrader: websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 4096, WriteBufferPool: new(sync.Pool)}}
	routes := http.NewServeMux()
	routes.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	routes.HandleFunc("/events", w.accept)
	routes.HandleFunc("/write", w.write)
	routes.HandleFunc("/sockets", w.count)
	routes.HandleFunc("/tell", w.told)
	server := &http.Server{Handler: routes, ReadHeaderTimeout: settleLimit}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve sockets: %w", err)
	}
	return nil
}

// bareWriter has the sockets, by user: those of one are written to one after the other, as a gateway does.
type bareWriter struct {
	upgrader websocket.Upgrader

	mu    sync.Mutex
	users map[string][]*websocket.Conn // guarded by mu, as the one below
	order []string
}

// accept upgrades a client, and says that it is ready. Whose it is, the client is believed.
func (w *bareWriter) accept(rw http.ResponseWriter, r *http.Request) {
	user := r.Header.Get(bareUser)
	conn, err := w.upgrader.Upgrade(rw, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	err = conn.WriteMessage(websocket.TextMessage, []byte(`{"specversion":"1.0","id":"bare-1","source":"reelay/session","type":"reelay.ready","cursor":"bare.0"}`))
	if err != nil {
		_ = conn.Close()
		return
	}
	w.mu.Lock()
	if w.users == nil {
		w.users = make(map[string][]*websocket.Conn)
	}
	if w.users[user] == nil {
		w.order = append(w.order, user)
	}
	w.users[user] = append(w.users[user], conn)
	w.mu.Unlock()
	for { // until the client is gone; it sends nothing
		if _, _, err := conn.NextReader(); err != nil {
			_ = conn.Close()
			return
		}
	}
}

// bareUser is the header in which a client of the bare server says whose it is.
const bareUser = "Bench-User"

// write writes to all sockets in turns, by as many goroutines as there are CPUs, until the time is over.
func (w *bareWriter) write(rw http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.FormValue("for"))
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	end := time.Now().Add(d)
	lanes := runtime.GOMAXPROCS(0)
	rounds := make(map[string]int64, len(w.order))
	var counting sync.Mutex
	var wg sync.WaitGroup
	for lane := range lanes {
		wg.Go(func() {
			for round := int64(1); time.Now().Before(end); round++ {
				for i := lane; i < len(w.order); i += lanes {
					user := w.order[i]
					if !writeTo(w.users[user], user, round, round) {
						return
					}
					counting.Lock()
					rounds[user] = round
					counting.Unlock()
				}
			}
		})
	}
	wg.Wait()
	_ = json.NewEncoder(rw).Encode(rounds)
}

// count answers how many sockets there are.
func (w *bareWriter) count(rw http.ResponseWriter, _ *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, conns := range w.users {
		n += len(conns)
	}
	_, _ = fmt.Fprint(rw, n)
}

// told is a socket that says of whose videos which was changed by which commit: "user number" in each frame. It is the
// only one of its kind at a time, and not while write writes.
func (w *bareWriter) told(rw http.ResponseWriter, r *http.Request) {
	teller, err := w.upgrader.Upgrade(rw, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	defer teller.Close()
	sequences := make(map[string]int64)
	for {
		_, frame, err := teller.ReadMessage()
		if err != nil {
			return
		}
		user, digits, _ := strings.Cut(string(frame), " ")
		number, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return
		}
		w.mu.Lock()
		conns := w.users[user]
		w.mu.Unlock()
		sequences[user]++
		writeTo(conns, user, sequences[user], number) // whose socket is gone fails by itself
	}
}

// writeTo writes an event to a user's sockets, as large as a gateway's.
func writeTo(conns []*websocket.Conn, user string, sequence, number int64) bool {
	n := strconv.FormatInt(number, 10)
	frame := []byte(`{"specversion":"1.0","id":"bare.` + strconv.FormatInt(sequence, 10) + `","source":"reelay","type":"video.updated","subject":"v` + user + `0",` +
		`"time":"2026-11-22T10:00:00.123456Z","datacontenttype":"application/json","data":{"previous": {"progress": 0}, "progress": ` + n + `}}`)
	for _, conn := range conns {
		if conn.WriteMessage(websocket.TextMessage, frame) != nil {
			return false
		}
	}
	return true
}
