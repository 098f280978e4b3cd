package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/reelay/reelay/deploy/local"
)

// machine says what the figures were measured on. What cannot be found out is empty.
type machine struct {
	At       time.Time `json:"at"`
	System   string    `json:"system"`
	CPUs     int       `json:"cpus"`
	CPU      string    `json:"cpu"`
	MemoryMB int       `json:"memory_mb"`
	Load     string    `json:"load_before"` // 1, 5 and 15 minutes: what else was running
	Go       string    `json:"go"`
	Postgres string    `json:"postgres"`
	Redis    string    `json:"redis"`
	Reelay   string    `json:"reelay"`
}

func describe(ctx context.Context, o options) machine {
	m := machine{
		At: time.Now().UTC().Truncate(time.Second), System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(),
		Go: runtime.Version(), Load: firstLine("/proc/loadavg"), CPU: field("/proc/cpuinfo", "model name"),
		Reelay: output(ctx, o.reelay, "--version"),
	}
	if kernel := firstLine("/proc/sys/kernel/osrelease"); kernel != "" {
		m.System += " " + kernel
	}
	if kilobytes, _, found := strings.Cut(field("/proc/meminfo", "MemTotal"), " "); found {
		n, _ := strconv.Atoi(kilobytes) // the kernel writes numbers
		m.MemoryMB = n / 1024
	}
	if dir, err := local.PostgresBin(ctx); err == nil {
		m.Postgres = output(ctx, filepath.Join(dir, "postgres"), "--version")
	}
	if bin, err := local.RedisBin(); err == nil {
		m.Redis = output(ctx, bin, "--version")
	}
	return m
}

func (m machine) String() string {
	return strings.Join([]string{m.At.Format(time.DateOnly), m.System, m.CPU, m.Postgres, m.Go}, " · ")
}

func firstLine(path string) string {
	content, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(content), "\n")
	return line
}

// field returns what stands behind a name and a colon, the first time.
func field(path, name string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }() // it was only read
	for lines := bufio.NewScanner(file); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// output returns the first line that a program writes.
func output(ctx context.Context, path string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	content, _ := exec.CommandContext(ctx, path, args...).Output() //nolint:gosec // G204: the programs that are measured
	line, _, _ := strings.Cut(string(content), "\n")
	return strings.TrimSpace(line)
}
