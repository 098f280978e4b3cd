package local

import (
	"io"
	"maps"
	"slices"
	"time"
)

// Options says how to start a server. The zero value is a sensible server.
type Options struct {
	// Settings are the server's own settings (postgresql.conf, redis.conf) by name; they win over those chosen here,
	// except for addresses and folders.
	Settings map[string]string
	// Log receives the server's log, each line with the server's name before it; nil means nobody does. See Command.Log.
	Log io.Writer
	// Dir is where the server's folder is made; empty means the folder for temporary files. It must be a short path,
	// and when root runs this, one that everybody may pass through.
	Dir string
}

// startTimeout bounds a start whose context has no deadline. It is generous: a CI machine under load may take twenty
// seconds for what takes one here.
const startTimeout = time.Minute

// FastSettings makes a Postgres quick rather than safe against a crash of the machine. A crash of Postgres itself,
// which tests provoke, loses nothing: what was written is in the kernel's hands. (That is why synchronous_commit is
// not among them: it would leave commits in the memory of Postgres.)
func FastSettings() map[string]string {
	return map[string]string{"fsync": "off", "full_page_writes": "off"}
}

// sortedKeys returns a map's keys in order, so that the same options make the same command line.
func sortedKeys(settings map[string]string) []string { return slices.Sorted(maps.Keys(settings)) }
