package local

import (
	"runtime"
	"sync"
)

// forker is the one thread that starts all children.
//
// Linux sends the parent-death signal (Pdeathsig) when the *thread* that forked ends, not the process. The Go runtime
// ends threads as it likes, for instance with a goroutine that was locked to one, so a child started from just any
// goroutine may be killed in mid-life. Hence every child is started by one goroutine that is locked to its thread and
// lives as long as any child does. It ends with the last child, so that a test which stops what it started leaks nothing.
var forker thread

type thread struct {
	mu       sync.Mutex
	children int         // guarded by mu
	calls    chan func() // guarded by mu; open while children > 0
}

// start runs f, which starts one child, on the thread. When f succeeds the thread is kept until release is called.
func (t *thread) start(f func() error) error {
	t.mu.Lock()
	if t.children == 0 {
		t.calls = make(chan func())
		go serve(t.calls) // ends when release closes calls
	}
	t.children++
	calls := t.calls
	t.mu.Unlock()

	result := make(chan error, 1)
	calls <- func() { result <- f() }
	err := <-result
	if err != nil {
		t.release()
	}
	return err
}

// release says that a child that start started has ended.
func (t *thread) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.children--
	if t.children == 0 {
		close(t.calls)
	}
}

func serve(calls <-chan func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for call := range calls {
		call()
	}
}
