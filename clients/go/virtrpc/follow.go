package virtrpc

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
)

// follower keeps a stream going: whenever it breaks or ends, it is opened anew after a pause. One goroutine reads; any may close it.
type follower[M any] struct {
	conn *grpc.ClientConn
	// call is what to open; asked again for each attempt.
	call func() call
	// forgive is told an error first, and says whether it has put right what was wrong.
	forgive func(*Error) bool
	// broken is told what is tried again.
	broken func(error)

	life  context.Context // of the whole, not of one call
	close context.CancelFunc

	// patience is for a server that was not heard of yet.
	patience time.Duration
	heard    bool
	pauses   pauses
	current  *stream[M]
	// ours says that the present call was opened here, so that its refusals count. The first call of a job is the verb's.
	ours bool
}

func newFollower[M any](c *Client, call func() call) *follower[M] {
	f := &follower[M]{conn: c.conn, call: call, broken: c.broken, patience: c.options.timeout, pauses: pauses{longest: longestPause}}
	f.forgive = func(*Error) bool { return false }
	f.life, f.close = context.WithCancel(context.Background())
	return f
}

// next is the next message, however often the stream breaks before it comes. It gives an error where the server refuses, where one that was never
// heard of stays away, and where ctx ends or the follower is closed: the stream is over then, and the next call opens another.
func (f *follower[M]) next(ctx context.Context) (*M, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(f.life, func() { cancel(ErrClosed) })()
	if f.life.Err() != nil {
		cancel(ErrClosed)
		return nil, left(ctx)
	}
	trials := newTrials(f.patience)
	for {
		message, err := f.read(ctx)
		if err == nil {
			f.heard = true
			return message, nil
		}
		f.drop()
		if ctx.Err() != nil {
			return nil, left(ctx)
		}
		if err := f.pause(ctx, err, trials); err != nil {
			return nil, err
		}
	}
}

func (f *follower[M]) read(ctx context.Context) (*M, error) {
	if f.current == nil {
		opened, err := open[M](ctx, f.life, f.conn, f.asked())
		if err != nil {
			return nil, err
		}
		f.current = opened
	}
	defer context.AfterFunc(ctx, f.current.end)()
	return f.current.receive()
}

func (f *follower[M]) asked() call {
	f.ours = true
	call := f.call()
	call.patient = f.heard
	return call
}

// pause waits before the stream is opened again, or gives the error that ends it all.
func (f *follower[M]) pause(ctx context.Context, err error, trials *trials) error {
	if errors.Is(err, io.EOF) {
		f.broken(err)
		return sleep(ctx, f.pauses.next(0))
	}
	failed := asError(err)
	switch {
	case f.forgive(failed):
	case !f.heard:
		return trials.pause(ctx, failed, f.broken)
	case f.ours && failed.refusal():
		return failed
	}
	f.broken(failed)
	return sleep(ctx, f.pauses.next(failed.RetryDelay))
}

// drop ends the present call.
func (f *follower[M]) drop() {
	if f.current != nil {
		f.current.end()
		f.current = nil
	}
}
