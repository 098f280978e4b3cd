package auth_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/reelay/reelay/auth"
)

func TestBearerFromHeader(t *testing.T) {
	t.Parallel()
	const (
		token = "aaaa.bbbb-canary-bbbb.cccc"
		other = "aaaa.bbbb-canary-bbbb.dddd"
		entry = auth.BearerSubprotocol + token
	)
	type values = []string
	tests := []struct {
		name          string
		authorization values
		protocols     values
		want          string
		source        auth.Source
		err           error
	}{
		{"nothing", nil, nil, "", "", auth.ErrNoToken},
		{"header", values{"Bearer " + token}, nil, token, auth.SourceAuthorization, nil},
		{"scheme in small letters", values{"bearer " + token}, nil, token, auth.SourceAuthorization, nil},
		{"scheme in capitals", values{"BEARER " + token}, nil, token, auth.SourceAuthorization, nil},
		{"entry", nil, values{entry}, token, auth.SourceSubprotocol, nil},
		{"entry after the protocol", nil, values{"reelay.v1, " + entry}, token, auth.SourceSubprotocol, nil},
		{"entry before it, no space", nil, values{entry + ",reelay.v1"}, token, auth.SourceSubprotocol, nil},
		{"entry in a second line", nil, values{"reelay.v1", "\t" + entry + " "}, token, auth.SourceSubprotocol, nil},
		{"both, the same", values{"Bearer " + token}, values{"reelay.v1", entry}, token, auth.SourceAuthorization, nil},
		{"other protocols", nil, values{"reelay.v1, graphql-ws, reelay.bearer, Reelay.Bearer.x"}, "", "", auth.ErrNoToken},
		{"empty protocol header", nil, values{""}, "", "", auth.ErrNoToken},
		{"empty header", values{""}, nil, "", "", auth.ErrNoToken},
		{"Basic", values{"Basic YTpi"}, nil, "", "", auth.ErrNoToken},
		{"Basic beside an entry", values{"Basic YTpi"}, values{entry}, token, auth.SourceSubprotocol, nil},
		{"a scheme that begins alike", values{"Bearers " + token}, nil, "", "", auth.ErrNoToken},
		{"token without a scheme", values{token}, nil, "", "", auth.ErrNoToken},

		{"both, different", values{"Bearer " + token}, values{auth.BearerSubprotocol + other}, "", "", auth.ErrAmbiguousCredentials},
		{"two headers", values{"Bearer " + token, "Bearer " + other}, nil, "", "", auth.ErrAmbiguousCredentials},
		{"two headers, the same", values{"Bearer " + token, "Bearer " + token}, nil, "", "", auth.ErrAmbiguousCredentials},
		{"two headers, one Basic", values{"Basic YTpi", "Bearer " + token}, nil, "", "", auth.ErrAmbiguousCredentials},
		{"two entries", nil, values{entry + "," + auth.BearerSubprotocol + other}, "", "", auth.ErrAmbiguousCredentials},
		{"two entries, the same", nil, values{entry + "," + entry}, "", "", auth.ErrAmbiguousCredentials},
		{"two entries in two lines", nil, values{entry, entry}, "", "", auth.ErrAmbiguousCredentials},
		{"two entries, the first empty", nil, values{auth.BearerSubprotocol + "," + entry}, "", "", auth.ErrAmbiguousCredentials},

		{"scheme alone", values{"Bearer"}, nil, "", "", auth.ErrInvalidToken},
		{"scheme and a space", values{"Bearer "}, nil, "", "", auth.ErrInvalidToken},
		{"two tokens", values{"Bearer " + token + " " + other}, nil, "", "", auth.ErrInvalidToken},
		{"two tokens, joined by a proxy", values{"Bearer " + token + ",Bearer " + other}, nil, "", "", auth.ErrInvalidToken},
		{"two spaces", values{"Bearer  " + token}, nil, "", "", auth.ErrInvalidToken},
		{"space after", values{"Bearer " + token + " "}, nil, "", "", auth.ErrInvalidToken},
		{"tab after", values{"Bearer " + token + "\t"}, nil, "", "", auth.ErrInvalidToken},
		{"empty entry", nil, values{"reelay.v1, " + auth.BearerSubprotocol}, "", "", auth.ErrInvalidToken},
		{"entry with a space in it", nil, values{entry + " x"}, "", "", auth.ErrInvalidToken},
		{"bad header beside a good entry", values{"Bearer"}, values{entry}, "", "", auth.ErrInvalidToken},
		{"bad entry beside a good header", values{"Bearer " + token}, values{auth.BearerSubprotocol}, "", "", auth.ErrInvalidToken},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// Set by Add, as a server does it, since it spells the name in its own way: Sec-Websocket-Protocol.
			header := http.Header{}
			for _, value := range test.authorization {
				header.Add("Authorization", value)
			}
			for _, value := range test.protocols {
				header.Add("Sec-WebSocket-Protocol", value)
			}
			got, source, err := auth.BearerFromHeader(header)
			if got != test.want || source != test.source || !errors.Is(err, test.err) {
				t.Errorf("got %q from %q, error %v; want %q from %q, error %v", got, source, err, test.want, test.source, test.err)
			}
			if err != nil {
				wantNoLeak(t, err.Error(), token)
			}
		})
	}
}
