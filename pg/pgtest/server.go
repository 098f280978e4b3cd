package pgtest

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reelay/reelay/deploy/local"
	"github.com/reelay/reelay/pg"
)

const (
	template = "reelay_template"
	// statementLimit bounds what this package asks of the server.
	statementLimit = time.Minute
)

// Server is a private Postgres. A test may restart, kill, pause and start the one it got from NewServer as it likes.
type Server struct {
	*local.Postgres

	databases atomic.Int64 // how many New has made
	once      sync.Once
	err       error // of making the template
}

// NewServer starts a Postgres for this test alone, and stops it when the test ends. Settings are postgresql.conf's.
func NewServer(t testing.TB, settings map[string]string) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a Postgres; -short is without servers")
	}
	server, err := start(settings)
	if err != nil {
		t.Fatalf("start a Postgres: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Errorf("stop the Postgres: %v", err)
		}
	})
	return server
}

// Shared returns the server whose databases New hands out. Nobody may stop it or change its settings: it is for
// questions such as where its programs are.
func Shared(t testing.TB) *Server {
	t.Helper()
	return sharedServer(t)
}

func start(settings map[string]string) (*Server, error) {
	all := local.FastSettings()
	// Tests in parallel have a few connections each; some use two-phase commit.
	maps.Copy(all, map[string]string{"max_connections": "200", "max_prepared_transactions": "10", "shared_buffers": "64MB"})
	maps.Copy(all, settings)
	postgres, err := local.StartPostgres(context.Background(), local.Options{Settings: all})
	if err != nil {
		return nil, err
	}
	return &Server{Postgres: postgres}, nil
}

// New returns the URL of a fresh database with the schema reelay on this server.
func (s *Server) New(t testing.TB) string {
	t.Helper()
	s.once.Do(func() { s.err = s.makeTemplate() })
	if s.err != nil {
		t.Fatalf("make the template database: %v", s.err)
	}
	return s.create(t, template)
}

// NewEmpty returns the URL of a fresh database without the schema reelay.
func (s *Server) NewEmpty(t testing.TB) string {
	t.Helper()
	return s.create(t, "template1")
}

func (s *Server) create(t testing.TB, from string) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", s.databases.Add(1))
	if err := s.Do("CREATE DATABASE " + name + " TEMPLATE " + from); err != nil {
		t.Fatalf("create a database: %v", err)
	}
	t.Cleanup(func() {
		// Whether it can be dropped says nothing about the test: the server may be down, and goes away in the end.
		_ = s.Do("DROP DATABASE " + name + " WITH (FORCE)")
	})
	return s.URL(name)
}

func (s *Server) makeTemplate() error {
	if err := s.Do("CREATE DATABASE " + template); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), statementLimit)
	defer cancel()
	_, err := pg.Migrate(ctx, s.URL(template), slog.New(slog.DiscardHandler), nil)
	return err
}

// Do runs a statement that is about the server, such as CREATE DATABASE.
func (s *Server) Do(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), statementLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, statement)
	return err
}
