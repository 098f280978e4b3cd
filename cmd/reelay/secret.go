package main

import "net/url"

// secret is a setting that is never printed: in any format, also deep inside another value, it is "[redacted]".
type secret struct {
	// A closure, since no package that prints by reflection looks into one.
	reveal func() string
}

func newSecret(text string) secret {
	if text == "" {
		return secret{}
	}
	return secret{reveal: func() string { return text }}
}

// Reveal returns the secret itself; "" if there is none.
func (s secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// IsZero reports whether there is no secret.
func (s secret) IsZero() bool { return s.reveal == nil }

// UnmarshalText implements encoding.TextUnmarshaler, for flags and the environment.
func (s *secret) UnmarshalText(text []byte) error {
	*s = newSecret(string(text))
	return nil
}

// MarshalText implements encoding.TextMarshaler, for encoding/json and its like.
func (s secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String implements fmt.Stringer.
func (s secret) String() string { return "[redacted]" }

// secretURL is a URL with a password in it. Printed, it shows where it leads to and nothing else.
type secretURL struct{ secret }

func newSecretURL(text string) secretURL { return secretURL{newSecret(text)} }

// String returns scheme, host and path. User and parameters are left out as well: Postgres takes a password there too.
func (s secretURL) String() string {
	if s.IsZero() {
		return ""
	}
	address, err := url.Parse(s.Reveal())
	if err != nil || address.Scheme == "" {
		return s.secret.String()
	}
	shown := url.URL{Scheme: address.Scheme, Host: address.Host, Path: address.Path}
	if address.Host == "" && address.Query().Has("host") { // a socket, such as postgres:///app?host=/var/run/postgresql
		shown.RawQuery = "host=" + address.Query().Get("host")
	}
	return shown.String()
}

// MarshalText implements encoding.TextMarshaler.
func (s secretURL) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
