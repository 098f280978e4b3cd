package local

import "syscall"

// dieWithParent makes the kernel send sig to the child when the thread that starts it ends; see forker.
func dieWithParent(attributes *syscall.SysProcAttr, sig syscall.Signal) { attributes.Pdeathsig = sig }
