package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// row is one line of the table: something that runs.
type row struct {
	what  string
	where string
	pid   int
	log   string
}

// describe prints what runs where, and what to do with it.
func (s *stack) describe(out io.Writer) {
	var text strings.Builder
	if s.opts.quiet {
		fmt.Fprintf(&text, "%s/\n", s.url())
	} else {
		text.WriteString("\n")
		writeTable(&text, s.rows())
		s.writeHints(&text)
	}
	_, _ = io.WriteString(out, text.String()) // a terminal that is gone is no reason to fail
}

func (s *stack) rows() []row {
	self := os.Getpid()
	rows := []row{
		{"Postgres", s.postgres.URL("postgres"), s.postgres.PID(), "postgres.log"},
		{"Redis", s.redis.URL(), s.redis.PID(), "redis.log"},
	}
	for _, r := range s.replicas {
		rows = append(rows, row{
			r.name, fmt.Sprintf("%s, metrics http://%s/metrics", loopback(r.public), loopback(r.admin)),
			r.current().PID(), r.name + ".log",
		})
	}
	rows = append(rows, row{s.balancer.kind, s.url(), s.balancer.pid, ""})
	if s.balancer.pid != self {
		rows[len(rows)-1].log = "haproxy.log"
	}
	rows = append(rows, row{"example app", "http://" + s.app.address, self, ""})
	if s.opts.transcoder {
		rows = append(rows, row{"pretend transcoder", "plain SQL on table videos", self, "transcoder.log"})
	}
	return rows
}

func writeTable(out io.Writer, rows []row) {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(table, "  WHAT\tWHERE\tPID\tLOG")
	for _, r := range rows {
		_, _ = fmt.Fprintf(table, "  %s\t%s\t%d\t%s\n", r.what, r.where, r.pid, cmp.Or(r.log, "-"))
	}
	_ = table.Flush()
}

func (s *stack) writeHints(out io.Writer) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	p("")
	p("  Demo page   %s/", s.url())
	if s.opts.port != s.wantedPort {
		p("              (port %d is taken)", s.wantedPort)
	}
	p("  Logs        %s", s.folder.path)
	p("  SQL         psql '%s'", s.postgres.URL("postgres"))
	p("\n  Tokens, good for %.0f hours:", tokenLife.Hours())
	for _, user := range users {
		p("    %-6s %s", user, s.tokens[user])
	}
	p("\n  Follow one of them in another terminal:")
	for _, user := range users {
		p("    bin/reelay tail --url %s --token - < %s", s.url(), s.folder.file(tokenFile(user)))
	}
	p("\n  Ctrl-C stops all of it and removes the folder.")
}

func tokenFile(user string) string { return user + ".token" }
