package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// settingPrefix begins the name of every setting in the environment.
const settingPrefix = "REELAY_"

// environment holds the variables a program was started with. What is empty counts as not set: compose files and
// manifests write KEY="" for a value they do not have.
type environment map[string]string

func newEnvironment(environ []string) environment {
	env := make(environment, len(environ))
	for _, entry := range environ {
		if key, value, found := strings.Cut(entry, "="); found && value != "" {
			env[key] = value
		}
	}
	return env
}

// resolve gives kong the value of a flag that was not on the command line. Kong's own env tag is not used: it asks the
// process, and a test has an environment of its own.
func (env environment) resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if value, found := env[settingOf(flag.Value)]; found {
		return value, nil
	}
	return nil, nil //nolint:nilnil // kong's way to say that there is none
}

// settingOf returns the name a flag has in the environment, from its tag; "" if it has none.
func settingOf(value *kong.Value) string { return value.Tag.Get("setting") }

// flagOf returns the flag of a setting: they have the same name in two spellings.
func flagOf(setting string) string {
	name := strings.ToLower(strings.TrimPrefix(setting, settingPrefix))
	return "--" + strings.ReplaceAll(name, "_", "-")
}

// allSettings returns the settings of all commands, sorted.
func allSettings(node *kong.Node) []string {
	var names []string
	for _, flag := range node.Flags {
		if name := settingOf(flag.Value); name != "" {
			names = append(names, name)
		}
	}
	for _, child := range node.Children {
		names = append(names, allSettings(child)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// serviceLink is what Kubernetes puts into every container for a Service of the name reelay or reelay-something.
var serviceLink = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_|$)`)

// unknownSettings returns a warning for each variable that looks like a setting and is none: a misspelled name is
// otherwise silent, and its default quietly stands.
func (env environment) unknownSettings(known []string) []string {
	var warnings []string
	for name := range env {
		if !strings.HasPrefix(name, settingPrefix) || slices.Contains(known, name) || serviceLink.MatchString(name) {
			continue
		}
		warning := name + " is set, but there is no such setting"
		if near := nearest(name, known); near != "" {
			warning += fmt.Sprintf("; did you mean %s?", near)
		}
		warnings = append(warnings, warning)
	}
	slices.Sort(warnings)
	return warnings
}

// nearest returns the candidate that is the fewest edits away from name; "" if that is so many that it is no slip.
func nearest(name string, candidates []string) string {
	best, fewest := "", 1+(len(name)-len(settingPrefix))/3
	for _, candidate := range candidates {
		if edits := distance(name, candidate); edits < fewest {
			best, fewest = candidate, edits
		}
	}
	return best
}

// distance counts the letters to insert, delete or replace to make a into b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
