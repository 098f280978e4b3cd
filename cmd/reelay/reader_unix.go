//go:build unix

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lookAtReader is how often the reader of a pipe is looked for where the kernel does not say at once that it has left.
const lookAtReader = time.Second

// errReaderGone is the cause of a context that ended since nobody reads any more.
var errReaderGone = errors.New("nobody reads any more")

// whileRead returns a context that also ends when w is a pipe whose reader has gone. Without it, reelay tail | head -1
// would stay until there is another event to print, which can be never.
func whileRead(ctx context.Context, w io.Writer) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	release := func() { cancel(context.Canceled) }
	file, ok := w.(*os.File)
	if !ok {
		return ctx, release
	}
	if info, err := file.Stat(); err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return ctx, release
	}
	go func() { // until the reader is gone, or for a moment after ctx
		watched := []unix.PollFd{{Fd: int32(file.Fd())}}
		for ctx.Err() == nil {
			n, err := unix.Poll(watched, int(lookAtReader.Milliseconds()))
			if n > 0 {
				cancel(errReaderGone)
				return
			}
			if err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return ctx, release
}
