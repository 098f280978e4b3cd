package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// print writes the report as a table, and what is wrong below it.
func (r *report) print(to io.Writer) {
	var b strings.Builder
	line := func(cells ...any) { fmt.Fprintf(&b, "%2s  %-40s %6s %8s %8s %6s %8s %6s %5s %5s %5s %6s\n", cells...) }
	line("#", "fault", "played", "median", "worst", "bound", "silence", "lied", "lost", "twice", "other", "resets")
	for _, row := range r.rows {
		if row.played == 0 {
			why := row.skipped
			if why == "" {
				why = "not played"
			}
			fmt.Fprintf(&b, "%2d  %-40s      – %s\n", row.fault.number, row.fault.title, why)
			continue
		}
		median, worst, bound := "–", "–", "–"
		if len(row.recoveries) > 0 {
			median, worst = seconds(quantile(row.recoveries, 0.5)), seconds(slices.Max(row.recoveries))
		}
		if row.fault.limit > 0 {
			bound = fmt.Sprintf("%.0f s", row.fault.limit.Seconds())
		}
		v := row.verdict
		line(fmt.Sprint(row.fault.number), row.fault.title, fmt.Sprint(row.played), median, worst, bound,
			seconds(row.silence), fmt.Sprintf("%.1f s", row.untruth.Seconds()),
			fmt.Sprint(v.Lost), fmt.Sprint(v.Twice), fmt.Sprint(v.Disordered+v.Foreign+v.States), fmt.Sprint(v.Resets))
	}
	fmt.Fprint(&b, `
median, worst  time to recovery, from what the bound counts from (--list says what that is)
silence        longest time without an event, where events should come
lied           longest time for which /readyz said what was not so (bound: 5 s)
other          events out of order or of another user, and states that differ from the table

`)
	fmt.Fprintf(&b, "%d transactions (%d ended by an outage), %d events, %d received by %d sessions: %s\n",
		r.Transactions, r.Failed, r.Events, r.Received, r.Sessions, r.verdict.String())
	for _, wrong := range r.wrong() {
		fmt.Fprintf(&b, "  WRONG: %s\n", wrong)
	}
	for _, detail := range r.Details[:min(20, len(r.Details))] {
		fmt.Fprintf(&b, "    %s\n", detail)
	}
	fmt.Fprintf(&b, "replicas: %s at the start, %s at the end\n", r.before, r.after)
	for _, row := range r.rows {
		for _, note := range row.notes {
			fmt.Fprintf(&b, "  %2d %s: %s\n", row.fault.number, row.fault.name, note)
		}
	}
	_, _ = io.WriteString(to, b.String()) // a terminal that is gone is no reason to fail
}

// wrong lists the promises that were broken and the bounds that were not kept.
func (r *report) wrong() []string {
	var all []string
	for _, row := range r.rows {
		for _, wrong := range row.broken {
			all = append(all, fmt.Sprintf("promise, %d %s: %s", row.fault.number, row.fault.name, wrong))
		}
	}
	for _, wrong := range r.broken {
		all = append(all, "promise: "+wrong)
	}
	for _, row := range r.rows {
		for _, wrong := range row.late {
			all = append(all, fmt.Sprintf("bound, %d %s: %s", row.fault.number, row.fault.name, wrong))
		}
	}
	for _, wrong := range r.late {
		all = append(all, "bound: "+wrong)
	}
	return all
}

// printList writes the faults that there are.
func printList(to io.Writer) {
	var b strings.Builder
	for _, f := range faults {
		fmt.Fprintf(&b, "%2d  %-20s %s", f.number, f.name, f.title)
		switch {
		case f.missing != "":
			fmt.Fprintf(&b, " (%s)", f.missing)
		case f.limit > 0:
			fmt.Fprintf(&b, "; recovered within %v of %s", f.limit.Round(time.Second), f.counts)
		}
		b.WriteByte('\n')
	}
	_, _ = io.WriteString(to, b.String())
}
