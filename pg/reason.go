package pg

import (
	"context"
	"errors"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// Reason names what keeps Postgres from serving us, for metrics and logs: a word from a short, stable list.
func Reason(err error) string {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch answer.Code {
		case "53300":
			return "too_many_connections"
		case "57014":
			return "statement_timeout"
		case "55P03":
			return "lock_timeout"
		case "57P01", "57P02":
			return "shutting_down"
		case "57P03":
			return "starting_up"
		case "57P05":
			return "session_timeout"
		case "25006":
			return "read_only"
		case "28000", "28P01":
			return "authentication"
		case "42501":
			return "privilege"
		case "3F000", "42P01", "42883", "42703":
			return "schema"
		}
		return "sql"
	}
	var network net.Error
	switch {
	case errors.Is(err, errReadOnly):
		return "read_only"
	case errors.Is(err, errFenced):
		return "fenced"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "connection"
}
