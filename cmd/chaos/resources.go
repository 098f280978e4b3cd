package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"
)

// residentSlack is what all replicas together may hold more than twice of what they held: the runtime keeps a tenth of
// the heap in hand, and spans that are full of holes.
const residentSlack = 100 << 20

// resources are what all replicas together hold.
type resources struct {
	goroutines, descriptors float64
	heap, resident          float64 // bytes
	// raced says that the gateway has the race detector in it, whose notes on memory that was in use once stay resident
	// for ever: several times as much as the memory itself.
	raced bool
}

// resources asks the replicas, after they have collected their garbage twice: what is in a pool outlives one collection,
// and after a herd that is more than all the rest.
func (c *campaign) resources(ctx context.Context) resources {
	for _, r := range slices.Concat(c.replicas, c.replicas) {
		if response, err := r.ask(ctx, "/debug/pprof/heap?gc=1"); err == nil { // else there is more than there need be
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
	}
	m := metricsOf(ctx, c.replicas)
	return resources{
		raced:      c.raced,
		goroutines: m.sum("go_goroutines"), descriptors: m.sum("process_open_fds"),
		heap: m.sum("go_memstats_heap_alloc_bytes"), resident: m.sum("process_resident_memory_bytes"),
	}
}

// atRest lets the application pause, and asks the replicas when they have let go of its last events: what they keep of
// them comes and goes, and is several megabytes.
func (c *campaign) atRest(ctx context.Context) (resources, error) {
	c.writers.gate.Lock()
	defer c.writers.gate.Unlock()
	c.prober.gate.Lock()
	defer c.prober.gate.Unlock()
	if err := c.letGo(ctx); err != nil {
		return resources{}, err
	}
	return c.resources(ctx), nil
}

// letGo waits until each replica has compared all its feeds with the log, which is when they let go of events that no
// session needs. The next question to the log, after the one that compares, says that it has come to its end.
func (c *campaign) letGo(ctx context.Context) error {
	for _, cause := range []string{"reconcile", "beat"} {
		questions := `reelay_hub_catch_ups_total{cause="` + cause + `"}`
		before := make(map[*replica]float64)
		err := until(ctx, time.Minute, "every replica has asked the log, cause "+cause, func() bool {
			asked := 0
			for _, r := range c.replicas {
				m, err := r.metrics(ctx)
				if err != nil {
					continue
				}
				if _, known := before[r]; !known {
					before[r] = m[questions]
				}
				if m[questions] > before[r] {
					asked++
				}
			}
			return asked == len(c.replicas)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// near says whether nothing has leaked, as far as that shows. The runtime gives back to the kernel what the garbage
// collection has freed, within seconds.
func (r resources) near(before resources) bool {
	return r.goroutines <= 1.2*before.goroutines+30 && r.descriptors <= 1.2*before.descriptors+30 &&
		r.heap <= 1.3*before.heap+15<<20 && (r.raced || r.resident <= 2*before.resident+residentSlack)
}

func (r resources) String() string {
	note := ""
	if r.raced {
		note = ", not judged: it is the race detector's"
	}
	return fmt.Sprintf("%.0f goroutines, %.0f descriptors, %.0f MB of heap (%.0f MB resident%s)",
		r.goroutines, r.descriptors, r.heap/(1<<20), r.resident/(1<<20), note)
}

// hasRaceDetector says whether a Go program was built with the race detector.
func hasRaceDetector(path string) (bool, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("look how the gateway was built: %w", err)
	}
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}), nil
}

// settle lets the application pause, and waits until the replicas have let go of what the faults made them take: while it
// writes they keep its last events, which they had not when they were looked at first.
func (c *campaign) settle(ctx context.Context, r *report) error {
	c.writers.gate.Lock()
	defer c.writers.gate.Unlock()
	c.prober.gate.Lock()
	defer c.prober.gate.Unlock()
	err := until(ctx, time.Minute, "the replicas have let go", func() bool {
		r.after = c.resources(ctx)
		return r.after.near(r.before)
	})
	if err != nil && ctx.Err() == nil {
		r.late = append(r.late, fmt.Sprintf("the replicas do not return to where they were: %s before, %s after", r.before, r.after))
	}
	return ctx.Err()
}
