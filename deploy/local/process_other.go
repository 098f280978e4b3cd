//go:build unix && !linux

package local

import "syscall"

// dieWithParent does nothing: only Linux ties a child's life to its parent's.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
