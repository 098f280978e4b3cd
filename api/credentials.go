package api

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/reelay/reelay/auth"
)

// Where a request to /events may carry what proves its user, and for whom that is:
//
//	Authorization: Bearer            phones, servers
//	subprotocol reelay.bearer.<jwt>  a page's WebSocket
//	cookie                           a page of an allowed origin, where the operator has named the cookie
//	ticket=                          a page's EventSource; one use
//	access_token=                    nobody, unless the operator has allowed it: URLs end up in logs and histories
//
// Two that differ are refused, so that which of them counts does not depend on who reads.

// credential is what a request proves its user by: a token or a ticket, and neither where there is none.
type credential struct {
	token  string
	ticket string
}

// credentialOf finds the request's one credential. It returns a *problem or an error of auth.
func (s *Server) credentialOf(r *http.Request, values url.Values) (credential, error) {
	token, err := s.headerToken(r)
	if err != nil && !errors.Is(err, auth.ErrNoToken) {
		return credential{}, err
	}
	for _, name := range []string{"access_token", "token"} {
		switch inURL := values[name]; {
		case len(inURL) == 0:
		case !s.tokenInURL:
			return credential{}, errTokenInURL
		case len(inURL) > 1 || token != "" && token != inURL[0]:
			return credential{}, errAmbiguous
		default:
			token = inURL[0]
		}
	}
	tickets := values["ticket"]
	switch {
	case len(tickets) == 0:
		return credential{token: token}, nil
	case len(tickets) > 1 || token != "":
		return credential{}, errAmbiguous
	case tickets[0] == "":
		return credential{}, errInvalidTicket
	}
	return credential{ticket: tickets[0]}, nil
}

// principalOf verifies the request's credential. It returns auth.ErrNoToken where there is none.
func (s *Server) principalOf(r *http.Request, values url.Values) (auth.Principal, error) {
	found, err := s.credentialOf(r, values)
	switch {
	case err != nil:
		return auth.Principal{}, err
	case found.ticket != "":
		return s.redeem(r, found.ticket)
	case found.token != "":
		return s.verifier.Verify(found.token)
	}
	return auth.Principal{}, auth.ErrNoToken
}

// headerToken finds the token in the request's headers, the cookie among them; auth.ErrNoToken if there is none.
func (s *Server) headerToken(r *http.Request) (string, error) {
	token, _, err := auth.BearerFromHeader(r.Header)
	if s.cookie == "" || err != nil && !errors.Is(err, auth.ErrNoToken) {
		return token, err
	}
	cookies := r.CookiesNamed(s.cookie)
	switch {
	case len(cookies) == 0:
		return token, err
	case !cookieAllowed(r):
		return "", errCookie
	case len(cookies) > 1 || token != "" && token != cookies[0].Value:
		// Of two cookies of a name, one may have been planted by a subdomain.
		return "", errAmbiguous
	}
	return cookies[0].Value, nil
}

// cookieAllowed tells whether a cookie proves anything. Browsers send cookies along whoever's page makes the request,
// so it has to be known whose page it is: by Origin, which was checked before, or by Sec-Fetch-Site, where a browser
// leaves Origin away because the page is the host's own. What neither says is taken for a trap.
func cookieAllowed(r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		return false
	}
	return r.Header.Get("Origin") != "" || fromSameOrigin(r)
}

// fromSameOrigin tells whether the browser says that the page is of this host. A page cannot set the header itself.
// See https://www.w3.org/TR/fetch-metadata/.
func fromSameOrigin(r *http.Request) bool { return r.Header.Get("Sec-Fetch-Site") == "same-origin" }
