//go:build !unix

package main

import (
	"context"
	"errors"
	"io"
)

// errReaderGone is the cause of a context that ended since nobody reads any more.
var errReaderGone = errors.New("nobody reads any more")

// whileRead returns ctx: here, a reader that has gone is noticed at the next write.
func whileRead(ctx context.Context, _ io.Writer) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}
