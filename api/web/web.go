// Package web holds the demo page: two users side by side, each with a WebSocket client of its own. It is plain HTML
// and one script, loads nothing from elsewhere and runs under a Content-Security-Policy of 'self'. Its feed.js is also
// the shortest complete client: cursor, snapshot, reconnect with jitter, close codes, renewed tokens.
package web

import "embed"

// FS holds the page at its root: index.html and what it loads.
//
//go:embed index.html style.css app.js feed.js
var FS embed.FS
