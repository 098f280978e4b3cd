package api

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/reelay/reelay/auth"
)

// FuzzCredentialOf puts whatever there is in all the places of a request where a credential may stand, each of them twice.
// If one is taken, it is the only one: whoever reads the request in another order, such as a proxy that checks tokens,
// finds no other.
func FuzzCredentialOf(f *testing.F) {
	for _, seed := range []struct {
		header, again, protocols, cookies, query string
		cookie, inURL                            bool
	}{
		{header: "Bearer a.b.c"},
		{header: "Bearer a.b.c", again: "Bearer a.b.c"},
		{header: "bearer  a.b.c", protocols: "reelay.v1, reelay.bearer.a.b.c"},
		{header: "Bearer a.b.c", protocols: "reelay.v1\nreelay.bearer.d.e.f"},
		{protocols: "reelay.bearer.a.b.c,reelay.bearer.", query: "token=a.b.c", inURL: true},
		{header: "Basic x", cookies: "session=a.b.c; session=d.e.f", cookie: true},
		{header: "Bearer a.b.c", cookies: `session="a.b.c"`, cookie: true},
		{cookies: "session=a.b.c\nsession=", cookie: true, query: "access_token=a.b.c", inURL: true},
		{query: "access_token=a.b.c&token=a.b.c", inURL: true},
		{query: "access_token=&token=a.b.c&ticket=", inURL: true},
		{query: "%61ccess_token=a.b.c"},
		{query: "ticket=AAAA&ticket=AAAA"},
		{header: "Bearer a.b.c", query: "ticket=AAAA"},
		{header: "Bearer", query: "ticket=AAAA", cookies: "session=a", cookie: true},
	} {
		f.Add(seed.header, seed.again, seed.protocols, seed.cookies, seed.query, seed.cookie, seed.inURL)
	}
	f.Fuzz(func(t *testing.T, header, again, protocols, cookies, query string, cookie, inURL bool) {
		r := &http.Request{Header: http.Header{"Sec-Fetch-Site": {"same-origin"}}}
		for _, value := range []string{header, again} {
			if value != "" {
				r.Header.Add("Authorization", value)
			}
		}
		for name, lines := range map[string]string{"Sec-Websocket-Protocol": protocols, "Cookie": cookies} {
			if lines != "" {
				r.Header[name] = strings.Split(lines, "\n")
			}
		}
		values, err := url.ParseQuery(query)
		if err != nil {
			return // refused before credentials are looked for
		}
		s := &Server{tokenInURL: inURL}
		if cookie {
			s.cookie = "session"
		}
		found, err := s.credentialOf(r, values)
		if err != nil {
			if p := problemOf(err); p.Status < 400 || p.Status > 403 || found != (credential{}) {
				t.Fatalf("got %+v, and the error %v that is told as %d", found, err, p.Status)
			}
			return
		}
		if found.token != "" && found.ticket != "" {
			t.Fatalf("a token and a ticket were taken: %+v", found)
		}
		for _, other := range credentialsIn(r, values, s.cookie) {
			if other != "" && other != found.token && other != found.ticket {
				t.Fatalf("%+v was taken, and there is %q, too", found, other)
			}
		}
		if found != (credential{}) && !inURL && (values.Has("access_token") || values.Has("token")) {
			t.Fatalf("%+v was taken, with a token in the URL, where none may be", found)
		}
	})
}

// credentialsIn returns what stands in each place of a request, without judging it.
func credentialsIn(r *http.Request, values url.Values, cookie string) []string {
	all := append(append(values["access_token"], values["token"]...), values["ticket"]...)
	for _, line := range r.Header["Authorization"] {
		if scheme, token, _ := strings.Cut(line, " "); strings.EqualFold(scheme, "Bearer") {
			all = append(all, token)
		}
	}
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for name := range strings.SplitSeq(line, ",") {
			if token, is := strings.CutPrefix(strings.Trim(name, " \t"), "reelay.bearer."); is {
				all = append(all, token)
			}
		}
	}
	if cookie == "" {
		return all
	}
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			if name, value, _ := strings.Cut(strings.TrimSpace(pair), "="); strings.TrimSpace(name) == cookie {
				if _, err := http.ParseCookie("session=" + value); err == nil { // others are no cookies to net/http
					all = append(all, strings.Trim(value, `"`))
				}
			}
		}
	}
	return all
}

// TestCredentialOf_NoneIsNoError has a request without a credential: to be told so is for those who need one.
func TestCredentialOf_NoneIsNoError(t *testing.T) {
	t.Parallel()
	s := &Server{}
	if found, err := s.credentialOf(&http.Request{Header: http.Header{}}, nil); err != nil || found != (credential{}) {
		t.Errorf("got %+v and %v, want nothing", found, err)
	}
	if _, err := s.principalOf(&http.Request{Header: http.Header{}}, nil); !errors.Is(err, auth.ErrNoToken) {
		t.Errorf("got %v, want that there is no token", err)
	}
}
