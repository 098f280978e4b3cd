package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// longestFolder keeps a socket's path, folder/.s.PGSQL.12345, below 104 bytes: the limit is 107 on Linux, 103 on macOS.
	longestFolder = 80
	// folderPrefix begins the name of every folder made here, so that sweep finds them.
	folderPrefix = "reelay-"
	// lockName is the file in a folder that its maker holds locked while it lives.
	lockName = "maker.lock"
)

// folder is a server's own folder. It is locked by this process, so that others see whether its maker still lives.
type folder struct {
	path string
	lock *os.File
}

// newFolder makes a folder for a server that runs as owner. Its parent is dir, or the system's folder for temporary
// files when dir is empty.
func newFolder(dir, kind string, owner *User) (*folder, error) {
	if dir == "" {
		dir = temporary(owner)
		sweep(dir)
	}
	path, err := os.MkdirTemp(dir, folderPrefix+kind+"-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	f := &folder{path: path}
	if len(path) > longestFolder {
		_ = f.remove()
		return nil, fmt.Errorf("folder %s is too long a path for a unix socket: choose one in a shorter folder", path)
	}
	// Locked first, named afterwards: nobody finds the file unlocked while we live.
	f.lock, err = os.Create(filepath.Join(path, lockName+".new"))
	if err == nil {
		err = syscall.Flock(int(f.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == nil {
		err = os.Rename(f.lock.Name(), filepath.Join(path, lockName))
	}
	if err == nil && owner != nil {
		err = os.Chown(path, int(owner.UID), int(owner.GID))
	}
	if err != nil {
		_ = f.remove()
		return nil, fmt.Errorf("prepare folder %s: %w", path, err)
	}
	return f, nil
}

// remove deletes the folder and what is in it.
func (f *folder) remove() error {
	err := os.RemoveAll(f.path)
	if f.lock != nil {
		_ = f.lock.Close()
	}
	return err
}

// temporary returns the folder for temporary files, or /tmp where that one is too long for sockets, or closed to the
// user that the server runs as.
func temporary(owner *User) string {
	dir := os.TempDir()
	if len(dir) > longestFolder-len(folderPrefix+"postgres-1234567890") || owner != nil && !open(dir) {
		return "/tmp"
	}
	return dir
}

// open says whether everybody may pass through dir and the folders above it.
func open(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// sweep removes folders whose maker was killed before it could. It is best effort: what it may not remove, it leaves.
func sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if !entry.IsDir() || !strings.HasPrefix(entry.Name(), folderPrefix) {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			_ = os.RemoveAll(path)
		}
		_ = lock.Close()
	}
}
