// Package migrations holds the schema of Reelay as numbered files, embedded in the binary.
//
// A file that has been released is never edited: what it got wrong, a later one mends. `reelay migrate` applies them.
package migrations

import "embed"

// FS holds the files, named NNNNN_what.sql, in the format of pressly/goose.
//
//go:embed *.sql
var FS embed.FS
