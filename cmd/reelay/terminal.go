package main

import (
	"io"
	"os"

	"github.com/mattn/go-isatty"
)

// isTerminal reports whether a person reads what is written to w.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

// wantsColour reports whether to colour what is written to w. See no-color.org.
func wantsColour(w io.Writer, environ environment) bool {
	return isTerminal(w) && environ["NO_COLOR"] == "" && environ["TERM"] != "dumb"
}
