package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// cpuTimes is CPU time, by who used it.
type cpuTimes struct {
	leader, replica, redis time.Duration
	writers                time.Duration // Postgres, but for Reelay's sessions
	reading                time.Duration // Postgres, in Reelay's sessions: numbering and reading
	ours                   time.Duration // this process: clients and writers
}

// servers is what all but this process used.
func (u cpuTimes) servers() time.Duration {
	return u.leader + u.replica + u.redis + u.writers + u.reading
}

// meter measures what servers use from one moment to another.
type meter struct {
	stack    *stack
	replicas []*gateway // but for the leader
	sessions []int      // of Reelay's, in Postgres
	before   cpuTimes
}

// newMeter begins to measure. The first gateway is the leader, if there is any.
func (s *stack) newMeter(ctx context.Context) (*meter, error) {
	m := &meter{stack: s}
	if len(s.gateways) > 0 {
		m.replicas = s.gateways[1:]
	}
	rows, err := s.db.QueryContext(ctx, "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'reelay%'")
	if err != nil {
		return nil, fmt.Errorf("look for Reelay's sessions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var pid int
		if err := rows.Scan(&pid); err != nil {
			return nil, fmt.Errorf("look for Reelay's sessions: %w", err)
		}
		m.sessions = append(m.sessions, pid)
	}
	m.before = m.read()
	return m, rows.Err()
}

func (m *meter) read() cpuTimes {
	u := cpuTimes{redis: cpuOf(m.stack.redis.PID()), ours: cpuOf(os.Getpid()), writers: familyCPU(m.stack.postgres.PID())}
	if len(m.stack.gateways) > 0 {
		u.leader = cpuOf(m.stack.gateways[0].process.PID())
	}
	for _, g := range m.replicas {
		u.replica += cpuOf(g.process.PID())
	}
	for _, pid := range m.sessions {
		u.reading += cpuOf(pid)
	}
	u.writers -= u.reading
	return u
}

// used returns what was used since the beginning.
func (m *meter) used() cpuTimes {
	now := m.read()
	return cpuTimes{
		now.leader - m.before.leader, now.replica - m.before.replica, now.redis - m.before.redis,
		now.writers - m.before.writers, now.reading - m.before.reading, now.ours - m.before.ours,
	}
}
