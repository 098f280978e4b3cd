package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// problem is one thing that is wrong with one setting. It repeats no value that may hold a secret.
type problem struct {
	setting string
	wrong   string
	example string
}

func (p problem) String() string {
	return fmt.Sprintf("%s (%s): %s; for example %s", p.setting, flagOf(p.setting), p.wrong, p.example)
}

// settingsError is everything that is wrong with the settings of one command.
type settingsError []problem

func (e settingsError) Error() string {
	title := "1 setting is wrong, nothing was started"
	if len(e) > 1 {
		title = fmt.Sprintf("%d settings are wrong, nothing was started", len(e))
	}
	lines := []string{title}
	for _, p := range e {
		lines = append(lines, "  "+p.String())
	}
	return strings.Join(lines, "\n")
}

// checker collects what is wrong with the settings, so that one start names every mistake and not the first alone.
type checker struct {
	problems settingsError
}

// reject notes that a setting is wrong, and what a right value looks like.
func (c *checker) reject(setting, example, format string, args ...any) {
	c.problems = append(c.problems, problem{setting: setting, wrong: fmt.Sprintf(format, args...), example: example})
}

// err returns everything that was rejected, or nil.
func (c *checker) err() error {
	if len(c.problems) == 0 {
		return nil
	}
	return c.problems
}

// oneOf returns the choice that value names, in any case.
func (c *checker) oneOf(setting, value string, choices ...string) string {
	for _, choice := range choices {
		if strings.EqualFold(value, choice) {
			return choice
		}
	}
	c.reject(setting, choices[0], "%q is none of %s", value, strings.Join(choices, ", "))
	return ""
}

// maxSecretFile bounds what is read of a file that should hold one line.
const maxSecretFile = 64 << 10

// file returns what the file of a setting holds, without the newline at its end. Neither path nor content is repeated
// in an error: a secret put where its path belongs would be printed.
func (c *checker) file(setting, path, example string) string {
	plain := strings.TrimSuffix(setting, "_FILE")
	if strings.Contains(path, "://") {
		c.reject(setting, example, "is a URL and not the path of a file; it belongs in %s", plain)
		return ""
	}
	content, err := readSecretFile(path)
	if err != nil {
		c.reject(setting, example, "the file it names cannot be read: %v", err)
		return ""
	}
	content = strings.TrimRight(content, "\r\n")
	if content == "" {
		c.reject(setting, example, "the file it names is empty")
	}
	return content
}

func readSecretFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", withoutPath(err)
	}
	defer func() { _ = file.Close() }() // it was only read
	content, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	if err != nil {
		return "", withoutPath(err)
	}
	if len(content) > maxSecretFile {
		return "", fmt.Errorf("it is over %d KiB long", maxSecretFile>>10)
	}
	return string(content), nil
}

func withoutPath(err error) error {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		return pathError.Err
	}
	return err
}
