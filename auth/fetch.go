package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// maxSetBytes bounds what is read of a key server's answer, after it was unpacked. A set of twenty keys with their
	// certificates has 50 KiB.
	maxSetBytes = 1 << 20
	// fetchTimeout bounds a whole fetch: name, connection, TLS, redirects and the last byte.
	fetchTimeout = 5 * time.Second
	maxRedirects = 3
)

// The outcomes of a fetch, as the metric names them.
const (
	outcomeOK          = "ok"
	outcomeUnreachable = "unreachable" // no connection, no TLS, or no whole answer in time
	outcomeStatus      = "status"      // an answer other than 200
	outcomeRedirect    = "redirect"    // sent elsewhere
	outcomeTooLarge    = "too_large"
	outcomeInvalid     = "invalid" // no JWKS
	outcomeEmpty       = "empty"   // a JWKS without a key for signatures
)

var outcomes = []string{
	outcomeOK, outcomeUnreachable, outcomeStatus, outcomeRedirect, outcomeTooLarge, outcomeInvalid, outcomeEmpty,
}

var errRedirect = errors.New("it redirects to another host, and what is configured is this one")

// fetchError is a fetch that brought no keys.
type fetchError struct {
	outcome string
	err     error
}

func (e *fetchError) Error() string { return e.err.Error() }

func (e *fetchError) Unwrap() error { return e.err }

// checkJWKSURL parses the address of a key server. Its errors do not repeat the address, which may hold a password.
func checkJWKSURL(address string, insecure bool) (*url.URL, error) {
	parsed, err := url.Parse(address)
	switch {
	case err != nil || parsed.Hostname() == "" || parsed.Opaque != "":
		return nil, errors.New("JWKS URL: not of the form https://host/path")
	case parsed.Scheme == "http" && !insecure:
		return nil, errors.New("JWKS URL: plain http, on which anybody on the way can exchange the keys; take https, or allow it where the way is yours")
	case parsed.Scheme != "https" && parsed.Scheme != "http":
		return nil, errors.New("JWKS URL: not https")
	case parsed.User != nil:
		return nil, errors.New("JWKS URL: has a user name or password; public keys need none")
	case parsed.Fragment != "":
		return nil, errors.New("JWKS URL: has a fragment (#), which is never sent")
	}
	return parsed, nil
}

// fetcher gets a JWKS. A request carries nothing but its URL: no token, cookie or password.
type fetcher struct {
	url    *url.URL
	client *http.Client
}

func newFetcher(address *url.URL, transport http.RoundTripper) *fetcher {
	if transport == nil {
		transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment,
			// A connection would lie idle between two fetches. Without one there is nothing to close, and a change of the
			// server's address is seen at once.
			DisableKeepAlives:      true,
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    fetchTimeout,
			ResponseHeaderTimeout:  fetchTimeout,
			MaxResponseHeaderBytes: 64 << 10,
		}
	}
	return &fetcher{url: address, client: &http.Client{Transport: transport, CheckRedirect: checkRedirect}}
}

// checkRedirect follows a redirect within the host alone: the operator trusts this one, and whoever can place a redirect
// on it may send us to the inside of our own network.
func checkRedirect(next *http.Request, before []*http.Request) error {
	from := before[0].URL
	if next.URL.Host != from.Host || next.URL.User != nil || next.URL.Scheme != from.Scheme && next.URL.Scheme != "https" {
		return &fetchError{outcomeRedirect, errRedirect}
	}
	if len(before) > maxRedirects {
		return &fetchError{outcomeRedirect, fmt.Errorf("it redirects more than %d times", maxRedirects)}
	}
	next.Header.Del("Referer")
	return nil
}

// fetch gets the set once. The error is a *fetchError that repeats nothing of the URL's query.
func (f *fetcher) fetch(ctx context.Context) (keyset, []skippedKey, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	raw, err := f.read(ctx)
	if err != nil {
		if ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no whole answer within %v", fetchTimeout)
		}
		if known, ok := errors.AsType[*fetchError](err); ok {
			return nil, nil, known
		}
		return nil, nil, &fetchError{outcomeUnreachable, err}
	}
	keys, skipped, err := parseJWKS(raw)
	switch {
	case errors.Is(err, errNoKeys):
		return nil, skipped, &fetchError{outcomeEmpty, err}
	case err != nil:
		return nil, nil, &fetchError{outcomeInvalid, fmt.Errorf("read its JWKS: %w", err)}
	}
	return keys, skipped, nil
}

func (f *fetcher) read(ctx context.Context) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	request.Header.Set("User-Agent", "reelay")
	response, err := f.client.Do(request)
	if err != nil {
		// It begins with method and URL.
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, &fetchError{outcomeStatus, fmt.Errorf("it answers with status %d", response.StatusCode)}
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxSetBytes+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxSetBytes {
		return nil, &fetchError{outcomeTooLarge, fmt.Errorf("its answer is larger than %d bytes", maxSetBytes)}
	}
	return raw, nil
}
