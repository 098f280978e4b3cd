package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/reelay/reelay/auth"
)

// inspectCommand is reelay token inspect.
type inspectCommand struct {
	Token secret `arg:"" help:"The token; - reads it from standard input, which keeps it out of the shell's history."`
	JSON  bool   `name:"json" help:"Print the explanation as JSON."`

	JWT jwtFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (*inspectCommand) Help() string {
	return `Shows what a token says, with its dates in words, and whether a gateway with these settings accepts it; if not, which
rule refuses it and what to do. Without a key it explains only. The signature is never shown, so that the output can be
shared. Exit code 1 says that the token is refused.

Examples:

    reelay token --user alice | reelay token inspect -
    reelay token inspect - --json < token.txt | jq -r .rule

Next: reelay tail --token - connects with it.`
}

// Run implements command.
func (i *inspectCommand) Run(ctx context.Context, p *program) error {
	verifier, err := i.verifier()
	if err != nil {
		return err
	}
	token := i.Token.Reveal()
	if token == "-" {
		text, err := readAll(ctx, p.stdin)
		if err != nil {
			return fmt.Errorf("read the token from standard input: %w", err)
		}
		token = strings.TrimSpace(text)
	}
	if token == "" {
		return usageError{errors.New("there is no token"), "reelay token inspect --help"}
	}
	if verifier != nil {
		if err := verifier.Fetch(ctx); err != nil {
			_, _ = fmt.Fprintf(p.stderr, "reelay: warning: the key server brings no keys: %v\n", err)
		}
	}
	explanation := auth.Explain(token, verifier, time.Now())
	if i.JSON {
		err = printJSON(p.stdout, explanation)
	} else {
		err = printExplanation(p.stdout, explanation)
	}
	if err != nil {
		return fmt.Errorf("print explanation: %w", err)
	}
	if explanation.Verdict == auth.Refused {
		return fmt.Errorf("the token is refused: %s", explanation.Rule)
	}
	return nil
}

// verifier returns the verifier of the settings, or nil if they hold no key.
func (i *inspectCommand) verifier() (*auth.Verifier, error) {
	if !i.JWT.hasKeys() {
		return nil, nil //nolint:nilnil // none is a fine answer
	}
	c := &checker{}
	config := i.JWT.config(c)
	if err := c.err(); err != nil {
		return nil, err
	}
	return auth.NewVerifier(config)
}

func printJSON(out io.Writer, explanation auth.Explanation) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(explanation)
}

// firstMembers are those that most tokens have, in the order in which people look for them.
var firstMembers = []string{"alg", "kid", "typ", "iss", "sub", "aud", "iat", "nbf", "exp", "jti"}

// printExplanation writes e for a person.
func printExplanation(out io.Writer, e auth.Explanation) error {
	words := make(map[string]string)
	for _, date := range e.Dates {
		words[date.Claim] = date.Time.Format("2006-01-02 15:04:05 MST") + ", " + date.Words
	}
	var text bytes.Buffer
	printMembers(&text, "header", e.Header, nil)
	printMembers(&text, "claims", e.Claims, words)
	switch e.Verdict {
	case auth.Accepted:
		fmt.Fprintf(&text, "accepted, for user %s\n", clean(e.User))
	case auth.Refused:
		fmt.Fprintf(&text, "refused: %s\n  %s\n", e.Rule, e.Advice)
	default:
		fmt.Fprintf(&text, "not checked: there is no key to check it with; set %s, %s or %s as the gateway has it\n", secretSetting, publicKeySetting, jwksSetting)
	}
	for _, note := range e.Notes {
		fmt.Fprintf(&text, "note: %s\n", clean(note))
	}
	if len(e.Keys) > 0 {
		fmt.Fprintf(&text, "checked with: %s\n", clean(strings.Join(e.Keys, "; ")))
	}
	_, err := out.Write(text.Bytes())
	return err
}

// printMembers writes the members of an object, one a line, and beside some of them what they mean.
func printMembers(text *bytes.Buffer, title string, object map[string]any, words map[string]string) {
	if object == nil {
		fmt.Fprintf(text, "%s: cannot be read\n", title)
		return
	}
	names := slices.SortedFunc(maps.Keys(object), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	fmt.Fprintln(text, title)
	widest := 0
	for _, name := range names {
		widest = max(widest, utf8.RuneCountInString(shorten(clean(name))))
	}
	for _, name := range names {
		line := fmt.Sprintf("  %-*s  %s", widest, shorten(clean(name)), memberText(object[name]))
		if words[name] != "" {
			line += "  " + words[name]
		}
		fmt.Fprintln(text, line)
	}
	fmt.Fprintln(text)
}

// rank is the place of a member in the order of firstMembers; all others come behind them.
func rank(name string) int {
	if i := slices.Index(firstMembers, name); i >= 0 {
		return i
	}
	return len(firstMembers)
}

// memberText is a value as the token has it, on one line and not too long.
func memberText(value any) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "?"
	}
	return shorten(clean(strings.TrimSuffix(text.String(), "\n")))
}

// shorten cuts what is too long for a line. The whole of it is in the JSON.
func shorten(text string) string {
	const enough = 120
	if utf8.RuneCountInString(text) <= enough {
		return text
	}
	return string([]rune(text)[:enough]) + "…"
}

// hideTokens replaces in text those of args that look like a token, or like a part of one.
func hideTokens(text string, args []string) string {
	for _, arg := range args {
		for word := range strings.FieldsSeq(arg) {
			if strings.Count(word, ".") >= 2 && len(word) >= 32 || strings.HasPrefix(word, "eyJ") {
				text = strings.ReplaceAll(text, word, newSecret(word).String())
			}
		}
	}
	return text
}
