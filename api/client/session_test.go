package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/api/client"
)

func TestClient_GivesUpASilentConnection(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, heartbeat string
		want            time.Duration
	}{
		{"two heartbeats and a grace", `"heartbeat":10`, 25 * time.Second},
		{"no heartbeat named", `"x":0`, 55 * time.Second},
		{"no heartbeat meant", `"heartbeat":1e300`, 55 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			scripts := []script{
				func(v *visit) {
					v.accept()
					v.send(`{"id":"s1","source":"reelay/session","type":"reelay.ready","data":{` + test.heartbeat + `}}`)
					v.drain()
				},
				closing(3003, ""),
			}
			inBubble(t, scripts, func(t *testing.T, g *gateway) {
				config := g.config()
				var readyAt time.Time
				config.OnState = func(status client.Status) {
					switch status.State {
					case client.Live:
						readyAt = time.Now()
						return
					case client.Connecting:
						return
					case client.Waiting:
					}
					if got := time.Since(readyAt); got != test.want {
						t.Errorf("gave up after %v, want %v", got, test.want)
					}
					if !strings.Contains(status.Reason.Error(), "nothing heard for "+test.want.String()) {
						t.Errorf("reason: got %v", status.Reason)
					}
				}
				_ = newClient(t, config).Run(t.Context(), ignore)
			})
		})
	}
}

func TestClient_AnswersPingsAndLivesByThem(t *testing.T) {
	t.Parallel()
	scripts := []script{func(v *visit) {
		v.ready()
		pongs := 0
		v.socket.SetPongHandler(func(payload string) error {
			pongs++
			if payload != fmt.Sprint(pongs) {
				t.Errorf("pong: got %q, want %d", payload, pongs)
			}
			return v.socket.SetReadDeadline(time.Now().Add(25 * time.Second))
		})
		done := make(chan struct{})
		go func() { // pings every 24 s, which is just in time
			defer close(done)
			for n := range 10 {
				if err := v.socket.WriteControl(websocket.PingMessage, fmt.Append(nil, n+1), time.Time{}); err != nil {
					t.Errorf("ping %d: %v", n+1, err)
				}
				<-time.After(24 * time.Second)
			}
			_ = v.socket.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(3003, ""), time.Time{})
		}()
		v.drain()
		<-done
		if pongs != 10 {
			t.Errorf("got %d pongs, want 10", pongs)
		}
	}}
	inBubble(t, scripts, func(t *testing.T, g *gateway) {
		var closed *client.CloseError
		if err := newClient(t, g.config()).Run(t.Context(), ignore); !errors.As(err, &closed) {
			t.Errorf("Run: got %v, want the gateway's close after four minutes", err)
		}
	})
}

func TestClient_DoesNotCountTheHandlersTimeAsSilence(t *testing.T) {
	t.Parallel()
	scripts := []script{func(v *visit) { v.ready(); v.send(event("c.1", "v"), event("c.2", "v")); v.drain() }}
	inBubble(t, scripts, func(t *testing.T, g *gateway) {
		var seen []string
		stop := until("c.2", &seen)
		err := newClient(t, g.config()).Run(t.Context(), func(ctx context.Context, frame client.Frame) error {
			<-time.After(time.Hour)
			return stop(ctx, frame)
		})
		if !errors.Is(err, errEnough) {
			t.Errorf("Run: got %v after %v, want both events over one connection", err, seen)
		}
	})
}

func TestClient_DoesNotWaitForReadyForever(t *testing.T) {
	t.Parallel()
	scripts := []script{
		func(v *visit) { v.accept(); v.drain() },
		closing(3003, ""),
	}
	inBubble(t, scripts, func(t *testing.T, g *gateway) {
		config := g.config()
		begin := time.Now()
		config.OnState = func(status client.Status) {
			if got := time.Since(begin); status.State == client.Waiting && got != 15*time.Second {
				t.Errorf("gave up after %v, want 15s", got)
			}
		}
		_ = newClient(t, config).Run(t.Context(), ignore)
	})
}

func TestClient_ShowsANewTokenBeforeTheOldOneEnds(t *testing.T) {
	t.Parallel()
	const expiring = `{"id":"x","source":"reelay/session","type":"reelay.expiring","data":{"expires":"2026-11-22T10:00:00Z"}}`
	scripts := []script{
		func(v *visit) {
			v.ready()
			v.send(expiring, expiring) // the second while the token is being fetched: one is enough
			v.send(event("c.1", "v"))  // arrives meanwhile
			if got, want := v.read(), `{"token":"token-2","type":"auth"}`; strings.TrimSpace(got) != want {
				t.Errorf("the client sent %s, want %s", got, want)
			}
			v.close(1012, "")
		},
		func(v *visit) {
			expectQuery(v, "after=c.1")
			if got := v.header.Get("Authorization"); got != "Bearer token-2" {
				t.Errorf("Authorization: got %q, want the newer token", got)
			}
			v.ready()
			v.send(expiring)
			v.close(3003, "") // while the client asks for the next token
		},
	}
	inBubble(t, scripts, func(t *testing.T, g *gateway) {
		config := g.config()
		config.After = "c.0"
		tokens := 0
		config.Token = func(ctx context.Context) (string, error) {
			tokens++
			switch tokens {
			case 2: // slow
				<-time.After(10 * time.Second)
			case 3: // stuck, until the connection is gone
				<-ctx.Done()
				return "", ctx.Err()
			}
			return fmt.Sprintf("token-%d", tokens), nil
		}
		var closed *client.CloseError
		if err := newClient(t, config).Run(t.Context(), ignore); !errors.As(err, &closed) {
			t.Errorf("Run: got %v, want the close of the second connection", err)
		}
		if tokens != 3 {
			t.Errorf("asked for %d tokens, want 3", tokens)
		}
	})
}

func TestClient_KeepsATokenThatCameTooLateForItsConnection(t *testing.T) {
	t.Parallel()
	scripts := []script{
		func(v *visit) {
			v.ready()
			v.send(`{"id":"x","source":"reelay/session","type":"reelay.expiring"}`)
			v.close(1012, "")
		},
		func(v *visit) {
			if got := v.header.Get("Authorization"); got != "Bearer token-2" {
				t.Errorf("Authorization: got %q, want the newer token", got)
			}
			v.ready()
			v.close(3003, "")
		},
	}
	inBubble(t, scripts, func(t *testing.T, g *gateway) {
		config := g.config()
		tokens := 0
		config.Token = func(context.Context) (string, error) {
			if tokens++; tokens == 2 {
				<-time.After(10 * time.Second) // and does not listen to its context
			}
			return fmt.Sprintf("token-%d", tokens), nil
		}
		_ = newClient(t, config).Run(t.Context(), ignore)
		if tokens != 2 {
			t.Errorf("asked for %d tokens, want 2", tokens)
		}
	})
}

func TestClient_SendsNoTokenThatTheGatewayHasAlready(t *testing.T) {
	t.Parallel()
	scripts := []script{func(v *visit) {
		v.ready()
		v.send(`{"id":"x","source":"reelay/session","type":"reelay.expiring"}`)
		synctest.Wait()
		v.send(event("c.1", "v"))
		if _, message, err := v.socket.ReadMessage(); !websocket.IsCloseError(err, 1000) {
			t.Errorf("got %q, %v; want nothing but the client's goodbye", message, err)
		}
	}}
	inBubble(t, scripts, func(t *testing.T, g *gateway) {
		var seen []string
		if err := newClient(t, g.config()).Run(t.Context(), until("c.1", &seen)); !errors.Is(err, errEnough) {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestClient_LeavesAtOnce(t *testing.T) {
	t.Parallel()
	live := func(v *visit) {
		v.ready()
		if code := v.drain(); code != 1000 {
			t.Errorf("the client ended with %d, want 1000", code)
		}
	}
	for _, test := range []struct {
		name    string
		scripts []script
		config  func(*client.Config)
	}{
		{name: "while live", scripts: []script{live}},
		{name: "while waiting", scripts: []script{closing502}},
		{name: "while waiting for ready", scripts: []script{func(v *visit) { v.accept(); v.drain() }}},
		{name: "in the handshake", scripts: []script{func(v *visit) { <-v.request.Context().Done() }}},
		{
			name: "in the handshake of a plain dialer", scripts: []script{func(v *visit) { <-v.request.Context().Done() }},
			config: func(config *client.Config) {
				dial := config.Dialer.NetDialContext
				config.Dialer = &websocket.Dialer{NetDial: func(network, address string) (net.Conn, error) {
					return dial(context.Background(), network, address)
				}}
			},
		},
		{name: "while it gets a token", config: func(config *client.Config) {
			config.Token = func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, test.scripts, func(t *testing.T, g *gateway) {
				config := g.config()
				if test.config != nil {
					test.config(&config)
				}
				c := newClient(t, config)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- c.Run(ctx, ignore) }()
				synctest.Wait()
				before := time.Now()
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("Run: got %v, want nil", err)
				}
				if took := time.Since(before); took != 0 {
					t.Errorf("leaving took %v", took)
				}
			})
		})
	}
}

func TestClient_LeavesWhileItsHandlerWorks(t *testing.T) {
	t.Parallel()
	scripts := []script{func(v *visit) {
		v.ready()
		v.send(event("c.1", "v"))
		if code := v.drain(); code != 1000 {
			t.Errorf("the client ended with %d, want 1000", code)
		}
	}}
	inBubble(t, scripts, func(t *testing.T, g *gateway) {
		c := newClient(t, g.config())
		ctx, cancel := context.WithCancel(t.Context())
		err := c.Run(ctx, func(ctx context.Context, frame client.Frame) error {
			if frame.ID == "c.1" {
				cancel()
				<-ctx.Done()
			}
			return nil
		})
		if err != nil || c.Cursor() != "c.1" {
			t.Errorf("Run: got %v with cursor %q, want nil and c.1, which was handled", err, c.Cursor())
		}
	})
}

// The tests above have a network in memory. This one has sockets of the kernel, with TLS.
func TestClient_SpeaksTLSOverRealSockets(t *testing.T) {
	t.Parallel()
	left := make(chan int, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{t: t, query: r.URL.Query(), header: r.Header, writer: w, request: r}
		v.ready()
		v.send(event("c.1", "v"))
		left <- v.drain()
		_ = v.socket.Close()
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	config := client.Config{
		URL:    server.URL,
		Dialer: &websocket.Dialer{TLSClientConfig: server.Client().Transport.(*http.Transport).TLSClientConfig},
	}
	config.Dialer.TLSClientConfig.NextProtos = nil
	c := newClient(t, config)
	err := c.Run(ctx, func(_ context.Context, frame client.Frame) error {
		if frame.ID == "c.1" {
			cancel()
		}
		return nil
	})
	if err != nil || c.Cursor() != "c.1" {
		t.Errorf("Run: got %v with cursor %q, want nil and c.1", err, c.Cursor())
	}
	if code := <-left; code != 1000 {
		t.Errorf("the client ended with %d, want 1000", code)
	}
}
