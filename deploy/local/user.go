package local

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// User is a user of this machine by number.
type User struct {
	UID uint32
	GID uint32
}

func (u *User) credential() *syscall.Credential {
	return &syscall.Credential{Uid: u.UID, Gid: u.GID}
}

// ServerUser returns the user to run servers as: nil, which means this process's user, unless that is root. Postgres
// refuses root, and Redis should not have its rights; then it is postgres, or nobody on a machine without postgres.
func ServerUser() (*User, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nil is a value here: as Command.User reads it.
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(found.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(found.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &User{UID: uint32(uid), GID: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("servers do not run as root, and this machine has neither a user postgres nor nobody: " +
		"run this as an ordinary user")
}
