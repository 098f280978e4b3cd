// Package client follows one user's events from a Reelay gateway over a WebSocket, and keeps doing so: through lost
// connections, restarts of the gateway and the end of tokens, without missing or repeating an event.
//
//	events, err := client.New(client.Config{
//		URL:   "https://events.example.com",
//		Token: func(ctx context.Context) (string, error) { return session.FreshToken(ctx) },
//		After: store.Cursor(), // "" on the very first start
//	})
//	if err != nil {
//		return err
//	}
//	return events.Run(ctx, func(ctx context.Context, frame client.Frame) error {
//		switch frame.Type {
//		case client.TypeReset:
//			store.Forget() // what we knew is void; a snapshot follows
//		case client.TypeSnapshot:
//			var page struct{ Videos []Video }
//			if err := frame.Decode(&page); err != nil {
//				return err
//			}
//			store.Put(page.Videos)
//		case "video.updated":
//			var change struct {
//				Status string `json:"processing_status"`
//			}
//			if err := frame.Decode(&change); err != nil {
//				return err
//			}
//			store.SetStatus(frame.Subject, change.Status)
//		}
//		return nil
//	})
//
// # What it promises
//
// The handler sees every frame in the order the gateway sent it. The cursor moves behind a frame once the handler has
// returned nil for it, so a frame whose handler failed comes again. Between two connections of one Run no event is
// handled twice. Across a crash of the program it depends on where the cursor is kept: written in the same transaction
// as the frame's effect, exactly once; otherwise at least once.
//
// What it does not do: it does not look for holes in the numbers of cursors. With Config.Videos set, or when the
// gateway conflates, numbers are left out rightly, and without either the gateway itself repairs or announces a hole.
//
// # How a connection ends, and what follows
//
//	connecting ──reelay.ready──▶ live ──lost, 1001, 1011, 1012, 1013, 3008──▶ waiting ──▶ connecting
//	     │                        │
//	     │                        ├─ 3000 ──▶ a new token, once in a row ──▶ connecting
//	     │                        └─ 3003, 1002, 1003, 1007, 1008, 1009 ──▶ Run returns a *CloseError
//	     ├─ HTTP 401 ──▶ a new token, once in a row
//	     ├─ HTTP 408, 425, 429, 5xx, unreachable ──▶ waiting, at least as long as Retry-After says
//	     └─ any other HTTP status ──▶ Run returns an *HTTPError
//
// Waiting doubles from a quarter of a second up to half a minute, with full jitter. When the gateway announces the end
// of the token, the client shows it a new one and the connection goes on.
package client
