package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// plan says what to play, and how.
type plan struct {
	scenario
	timing
	faults []fault
	rounds int
}

// choose returns the faults that a list names, by number or name; all of them for an empty list.
func choose(list string) ([]fault, error) {
	if list == "" {
		return faults, nil
	}
	var chosen []fault
	for word := range strings.SplitSeq(list, ",") {
		word = strings.TrimSpace(word)
		at := slices.IndexFunc(faults, func(f fault) bool { return f.name == word || strconv.Itoa(f.number) == word })
		if at < 0 {
			return nil, fmt.Errorf("there is no fault %q; --list names them", word)
		}
		chosen = append(chosen, faults[at])
	}
	return chosen, nil
}

// report is what a run came to.
type report struct {
	outcome
	rows []*row
	// Broken promises and bounds that were not kept, beyond those of a fault.
	broken []string
	late   []string
	// What the replicas hold before and after all faults, of which those that are rehearsed have been played once before.
	before, after resources
}

// row is all playings of one fault.
type row struct {
	fault      fault
	played     int
	skipped    string // why it was not played
	recoveries []time.Duration
	silence    time.Duration
	untruth    time.Duration
	verdict    verdict
	broken     []string
	late       []string
	notes      []string
}

func (r *row) add(e *episode) {
	r.played++
	r.recoveries = append(r.recoveries, e.recoveries...)
	r.silence = max(r.silence, e.silence)
	r.untruth = max(r.untruth, e.untruth)
	r.verdict.add(e.verdict)
	r.broken = append(r.broken, e.broken...)
	r.late = append(r.late, e.late...)
	r.notes = append(r.notes, e.notes...)
}

// kept says whether every promise was kept, and inTime whether every bound was.
func (r *report) kept() bool {
	return len(r.broken) == 0 && r.clean() && !slices.ContainsFunc(r.rows, func(r *row) bool { return len(r.broken) > 0 })
}

func (r *report) inTime() bool {
	return len(r.late) == 0 && !slices.ContainsFunc(r.rows, func(r *row) bool { return len(r.late) > 0 })
}

// carryOut plays the plan on a stack. It returns what there is to report, also together with an error.
func (p plan) carryOut(ctx context.Context, s *stack, progress io.Writer) (*report, error) {
	r := &report{}
	for _, f := range p.faults {
		r.rows = append(r.rows, &row{fault: f, skipped: f.missing})
	}
	c, err := s.begin(ctx, p.scenario)
	if err != nil {
		return r, err
	}
	err = p.playAll(ctx, c, r, progress)
	err = errors.Join(err, c.end())
	r.outcome = c.outcome
	return r, err
}

func (p plan) playAll(ctx context.Context, c *campaign, r *report, progress io.Writer) error {
	if err := c.whole(ctx); err != nil {
		return err
	}
	if _, err := c.compare(ctx); err != nil {
		return err
	}
	begun := time.Now()
	play := func(when string, row *row, random *rand.Rand) error {
		_, _ = fmt.Fprintf(progress, "%6.1f s  %-22s: %2d %-40s ", time.Since(begun).Seconds(), when, row.fault.number, row.fault.title)
		c.logf("plays %d %s", row.fault.number, row.fault.name)
		e, err := p.playOne(ctx, c, row, random)
		_, _ = fmt.Fprintln(progress, e.summary(err))
		c.logf("played %d %s: %s", row.fault.number, row.fault.name, e.summary(err))
		if err != nil {
			return fmt.Errorf("%d %s: %w", row.fault.number, row.fault.name, err)
		}
		return nil
	}
	r.before = c.resources(ctx)
	for _, row := range r.rows {
		if !row.fault.rehearsed || row.skipped != "" {
			continue
		}
		held := metricsOf(ctx, c.replicas)
		// Of a source of its own, so that the seed decides the same order with it and without.
		if err := play("before the first round", row, rand.New(rand.NewPCG(p.seed, 1))); err != nil {
			return err
		}
		if err := c.forgotten(ctx, held); err != nil {
			return err
		}
		var err error
		if r.before, err = c.atRest(ctx); err != nil {
			return err
		}
	}
	random := rand.New(rand.NewPCG(p.seed, 0))
	for round := range p.rounds {
		for n, at := range random.Perm(len(p.faults)) {
			row := r.rows[at]
			if row.skipped != "" {
				continue
			}
			when := fmt.Sprintf("round %d of %d, %2d of %d", round+1, p.rounds, n+1, len(p.faults))
			if err := play(when, row, random); err != nil {
				return err
			}
		}
	}
	return c.settle(ctx, r)
}

// playOne plays one fault, waits until all is as it was, and compares.
func (p plan) playOne(ctx context.Context, c *campaign, row *row, random *rand.Rand) (*episode, error) {
	for _, w := range c.watchers {
		w.forgetArrivals()
	}
	for _, s := range c.sentries {
		s.forget()
	}
	c.machine.forget()
	// Of a source of its own, so that what one fault draws does not move the others.
	e := &episode{
		campaign: c, timing: p.timing, fault: &row.fault, began: time.Now(),
		random: rand.New(rand.NewPCG(p.seed, random.Uint64())),
	}
	err := row.fault.play(ctx, e)
	if errors.Is(err, errSkipped) {
		row.skipped, e.skipped = err.Error(), err.Error()
		return e, nil
	}
	if err == nil {
		err = c.whole(ctx)
	}
	quiet := time.Now()
	if err == nil {
		var v verdict
		v, err = c.compare(ctx)
		e.verdict.add(v)
	}
	if err != nil {
		// What is not whole again within a minute has broken its promise, whatever else it has kept.
		if ctx.Err() == nil {
			e.breaks("%v", err)
		}
		row.add(e)
		return e, err
	}
	e.conclude(quiet)
	row.add(e)
	return e, nil
}

// conclude measures what is measured for every fault, up to a moment, and judges.
func (e *episode) conclude(until time.Time) {
	for _, w := range e.minded {
		e.silence = max(e.silence, w.silence(e.began, until))
	}
	for _, s := range e.sentries {
		e.untruth = max(e.untruth, s.untruth())
	}
	// A machine that lets nobody run for a while makes everything late by as much. Who reads the table may want to know,
	// but a bound is a bound: nothing is deducted.
	if still := e.machine.longest(); still > stillMost {
		e.notef("this machine stood still for %s", seconds(still))
	}
	if e.untruth > truthLimit {
		e.exceeds("/readyz told the untruth for %s", seconds(e.untruth))
	}
	if limit := e.fault.limit; limit > 0 {
		for _, took := range e.recoveries {
			if took > limit {
				e.exceeds("recovered %s after %s, and not within %v", seconds(took), e.fault.counts, limit)
			}
		}
	}
	if !e.verdict.clean() {
		e.breaks("%s", e.verdict.String())
	}
	if e.verdict.Resets > 0 && !e.fault.resets {
		e.breaks("%d sessions were reset, though their events are kept", e.verdict.Resets)
	}
}

// summary is what is said of an episode when it has ended.
func (e *episode) summary(err error) string {
	var words []string
	switch {
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case err != nil:
		return "did not work"
	case e.skipped != "":
		return e.skipped
	}
	if len(e.recoveries) > 0 {
		words = append(words, "recovered in "+seconds(slices.Max(e.recoveries)))
	}
	words = append(words, e.verdict.String())
	for _, wrong := range slices.Concat(e.broken, e.late) {
		words = append(words, "WRONG: "+wrong)
	}
	return strings.Join(words, "; ")
}
