package virtrpc

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	// Between two attempts for which a caller waits.
	longestTrial = time.Second
)

// pauses grow, with full jitter, so that the watchers of a restarted server do not come back all at once.
type pauses struct {
	longest  time.Duration
	attempts int
}

// next is the next pause; at least a tenth of what the jitter is drawn from. What the server asks for (RetryInfo) is the least: jitter comes on top.
func (p *pauses) next(least time.Duration) time.Duration {
	// No more doublings than a watch needs that has been trying for weeks.
	bound := min(p.longest, firstPause<<min(p.attempts, 10))
	p.attempts++
	if least > 0 {
		return least + jitter(max(bound, least))
	}
	return bound/10 + jitter(bound-bound/10)
}

func (p *pauses) reset() { p.attempts = 0 }

func jitter(bound time.Duration) time.Duration { return rand.N(bound + 1) }

// trials are attempts to reach a server that was not heard of yet, while a patience and a context allow.
type trials struct {
	pauses
	until time.Time
	cut   *Error
}

func newTrials(patience time.Duration) *trials {
	return &trials{pauses: pauses{longest: longestTrial}, until: time.Now().Add(patience)}
}

// pause tells what broke and waits before the next attempt, or gives the error where there is to be none: it is no passing one, or time has run out.
func (t *trials) pause(ctx context.Context, failed *Error, broken func(error)) error {
	if !failed.passing() {
		if failed.Code == codes.DeadlineExceeded && t.cut != nil {
			return t.cut // what it was before time ran out
		}
		return failed
	}
	t.cut = failed
	delay := t.next(failed.RetryDelay)
	at := time.Now().Add(delay)
	if deadline, set := ctx.Deadline(); at.After(t.until) || set && at.After(deadline) {
		return failed
	}
	broken(failed)
	return sleep(ctx, delay)
}

func sleep(ctx context.Context, delay time.Duration) error {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return left(ctx)
	}
}

// asError is err as this package's own; a foreign one is a fault of the connection.
func asError(err error) *Error {
	var ours *Error
	if errors.As(err, &ours) {
		return ours
	}
	return fromStatus(err)
}
