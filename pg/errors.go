package pg

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrPooler is returned by a Relay whose connection does not stay with one server process. Behind a pooler in
// transaction mode, session locks and LISTEN fail without an error, so it refuses to lead.
var ErrPooler = errors.New("the database URL leads through a connection pooler: give reelay serve a direct connection to Postgres")

// ErrNoSchema says that the schema is missing or older than this binary.
var ErrNoSchema = errors.New("the database has no schema reelay of this version: run reelay migrate")

// Transient reports whether trying again may help. Only an answer of the server can rule that out: a refused or lost
// connection, a timeout and a name that does not resolve are all transient.
func Transient(err error) bool {
	if errors.Is(err, ErrPooler) || errors.Is(err, ErrNoSchema) {
		return false
	}
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return true
	}
	switch answer.Code[:min(2, len(answer.Code))] {
	case "28", // invalid authorization: the password is wrong, or pg_hba refuses
		"42", // a name that is not there, a right that was not given
		"3D", // no such database
		"3F": // no such schema
		return false
	}
	return true
}

// refused reports whether the server could not answer because of what it was asked with, such as a text with a zero
// byte: data exceptions, and values that a constraint of a type refuses.
func refused(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && (strings.HasPrefix(answer.Code, "22") || strings.HasPrefix(answer.Code, "23"))
}

// describe puts the server's hint into the message, since that is where it says what to do.
func describe(err error) error {
	var answer *pgconn.PgError
	if errors.As(err, &answer) && answer.Hint != "" {
		return fmt.Errorf("%w\n  hint: %s", err, answer.Hint)
	}
	return err
}

// parseError hides what a connection string held: pgx quotes the whole of it, and blots out passwords it recognises.
func parseError(err error) error {
	if parse, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
		reason := parse.Error()
		if _, after, found := strings.Cut(reason, "`: "); found {
			reason = after
		}
		return fmt.Errorf("the database URL cannot be read: %s", reason)
	}
	return err
}

// schemaError wraps err with what was being done, and with ErrNoSchema where the server says that our schema, or a
// function, table or column of it, is not there.
func schemaError(err error, doing string) error {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		ours := answer.Hint != "" && (answer.Code == "42P01" || answer.Code == "42703") // raised by reelay.watch itself
		switch answer.Code {
		case "3F000", "42P01", "42883", "42703": // invalid_schema_name, undefined_table, undefined_function, undefined_column
			if !ours {
				return fmt.Errorf("%s: %w (%w)", doing, ErrNoSchema, err)
			}
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}
