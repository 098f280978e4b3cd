package auth

import (
	"fmt"
	"io"
)

// redacted is what every Secret looks like from outside.
const redacted = "[redacted]"

// Secret holds bytes that are for signing and never for reading. Printed, logged or encoded in any way it is
// "[redacted]", also where it is a field deep inside another value. The zero Secret is no secret at all.
type Secret struct {
	// A closure and not a []byte: fmt and others read unexported fields by reflection, where they ask no method of ours
	// how to print. None of them looks into a func.
	reveal func() []byte
}

// NewSecret returns the bytes of text as a Secret, exactly as they are: a secret in base64 is not decoded.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	raw := []byte(text)
	return Secret{reveal: func() []byte { return raw }}
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.reveal == nil }

// bytes returns the secret itself. The caller neither changes nor keeps it.
func (s Secret) bytes() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// UnmarshalText makes a Secret a setting that can be read from a flag, the environment or a file. It never fails.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// MarshalText implements encoding.TextMarshaler, for encoding/json and its like: "[redacted]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// String implements fmt.Stringer: "[redacted]".
func (s Secret) String() string { return redacted }

// Format implements fmt.Formatter: "[redacted]" for every verb and flag, %x and %#v among them.
func (s Secret) Format(f fmt.State, _ rune) {
	// There is nobody to tell: fmt.State has its own way with write errors.
	_, _ = io.WriteString(f, redacted)
}
