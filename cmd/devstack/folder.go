package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	folderPrefix = "reelay-devstack-"
	// lockName is the file that the maker of a folder holds locked while it lives, so that others see whether it does.
	lockName = "maker.lock"
	// longestTemp is how long the path above the folder may be: Postgres's socket lies two folders further down, and
	// its whole path has to stay below some 100 bytes.
	longestTemp = 24
)

// folder is where everything of one stack lies.
type folder struct {
	path string
	lock *os.File
}

// newFolder makes the folder, and removes those of stacks that were killed before they could.
func newFolder() (*folder, error) {
	parent := os.TempDir()
	if len(parent) > longestTemp || os.Geteuid() == 0 {
		// As root the servers run as another user, who must be able to reach their folders.
		parent = "/tmp"
	}
	sweep(parent)
	path, err := os.MkdirTemp(parent, folderPrefix)
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	f := &folder{path: path}
	// Locked under another name first: nobody finds the file unlocked while we live.
	fresh := filepath.Join(path, lockName+".new")
	f.lock, err = os.Create(fresh)
	if err == nil {
		err = syscall.Flock(int(f.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == nil {
		err = os.Rename(fresh, filepath.Join(path, lockName))
	}
	if err == nil {
		// The user that the servers run as may pass through, and read nothing on the way.
		err = os.Chmod(path, 0o711) //nolint:gosec // See above.
	}
	if err != nil {
		_ = f.remove()
		return nil, fmt.Errorf("prepare folder %s: %w", path, err)
	}
	return f, nil
}

// file returns the path of a file in the folder.
func (f *folder) file(name string) string { return filepath.Join(f.path, name) }

// create makes a file in the folder, for this user's eyes only.
func (f *folder) create(name string) (*os.File, error) {
	file, err := os.OpenFile(f.file(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a log: %w", err)
	}
	return file, nil
}

// remove deletes the folder and what is in it.
func (f *folder) remove() error {
	err := os.RemoveAll(f.path)
	if f.lock != nil {
		_ = f.lock.Close()
	}
	if err != nil {
		return fmt.Errorf("remove the folder: %w", err)
	}
	return nil
}

// sweep is best effort: what it may not remove, it leaves.
func sweep(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if !entry.IsDir() || !strings.HasPrefix(entry.Name(), folderPrefix) {
			continue
		}
		path := filepath.Join(parent, entry.Name())
		lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(path)
		}
		_ = lock.Close()
	}
}
