package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the linker when a release is built: -ldflags "-X main.version=1.2.3".
var version = "dev"

// versionCommand is reelay version.
type versionCommand struct{}

// Help implements kong.HelpProvider.
func (*versionCommand) Help() string {
	return `Example:

    $ reelay version
    reelay 0.1.0 (commit 1f3c9a7e2b44, go1.26.8, linux/amd64)

Put the line into a bug report.`
}

// Run implements command.
func (*versionCommand) Run(_ context.Context, p *program) error {
	commit := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				commit = setting.Value[:min(12, len(setting.Value))]
			}
		}
	}
	_, err := fmt.Fprintf(p.stdout, "reelay %s (commit %s, %s, %s/%s)\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
