package virtrpc

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"virtrpc.dev/go/virtrpcv1"
)

const (
	cancelPatience = 10 * time.Second
	// After the final state the server ends the call by itself; a proxy that keeps it open must not keep the caller.
	endOfStream = 2 * time.Second
)

// IsFinal says that a job has ended; its state changes no more.
func IsFinal(job *virtrpcv1.Job) bool {
	switch job.GetState() {
	case virtrpcv1.JobState_JOB_STATE_UNSPECIFIED, virtrpcv1.JobState_JOB_STATE_QUEUED, virtrpcv1.JobState_JOB_STATE_RUNNING:
		return false
	default:
		return true
	}
}

// A Job follows one job. A stream that breaks, or ends without a final state, is taken up again with WatchJob, with growing pauses and for as long
// as the contexts allow; where the server refuses even that, its error is given, such as [ErrJobNotFound] of a job that it has forgotten.
//
// Updates and Wait belong to one goroutine at a time; Latest, Cancel and Close may be called by any.
type Job struct {
	client   *Client
	id       string
	latest   atomic.Pointer[virtrpcv1.Job]
	follower *follower[virtrpcv1.JobUpdate]
}

// Attach follows a job that somebody has started. Nothing is asked before it is iterated or waited for; leaving it leaves the job alone.
func (c *Client) Attach(jobID string) *Job {
	return c.newJob(jobID, durationpb.New(c.options.heartbeat))
}

func (c *Client) newJob(id string, heartbeat *durationpb.Duration) *Job {
	job := &Job{client: c, id: id}
	job.follower = newFollower[virtrpcv1.JobUpdate](c, func() call {
		request := &virtrpcv1.WatchJobRequest{JobId: job.id, Heartbeat: heartbeat}
		return call{method: virtrpcv1.JobService_WatchJob_FullMethodName, request: request, silence: silenceOf(heartbeat)}
	})
	return job
}

// ID is the server's id for the job.
func (j *Job) ID() string { return j.id }

// Latest is the job as last seen; nil before anything was.
func (j *Job) Latest() *virtrpcv1.Job { return j.latest.Load() }

// Updates gives the job each time it changes, its present state first and its final state last. A job that fails is no error here. An error is the
// last that comes: the server refuses to tell, or ctx ended, or the job was closed here.
//
// Breaking out of the loop keeps listening, for Updates or Wait to go on; where ctx ends you have left.
func (j *Job) Updates(ctx context.Context) iter.Seq2[*virtrpcv1.Job, error] {
	return func(yield func(*virtrpcv1.Job, error) bool) {
		if latest := j.Latest(); latest != nil && !yield(latest, nil) {
			return
		}
		for !IsFinal(j.Latest()) {
			latest, err := j.next(ctx)
			if !yield(latest, err) || err != nil {
				return
			}
		}
		j.finish()
	}
}

// Wait follows the job to its end. It gives the job that SUCCEEDED, and an [*Error] with the job for one that did not. Other errors are those of
// [Job.Updates].
func (j *Job) Wait(ctx context.Context) (*virtrpcv1.Job, error) {
	for _, err := range j.Updates(ctx) {
		if err != nil {
			return j.Latest(), err
		}
	}
	if latest := j.Latest(); latest.GetState() != virtrpcv1.JobState_JOB_STATE_SUCCEEDED {
		return latest, fromJob(latest)
	}
	return j.Latest(), nil
}

// Cancel asks the job to stop, and is answered at once. The outcome says what could be done; go on waiting to see what becomes of it. A server that
// is away is tried for 10 s: to ask twice does no harm.
func (j *Job) Cancel(ctx context.Context) (*virtrpcv1.CancelJobResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, cancelPatience)
	defer cancel()
	trials := newTrials(cancelPatience)
	for {
		answer, err := j.client.Jobs.CancelJob(ctx, &virtrpcv1.CancelJobRequest{JobId: j.id})
		if err == nil {
			return answer, nil
		}
		if err := trials.pause(ctx, asError(err), j.client.broken); err != nil {
			return nil, err
		}
	}
}

// Close stops listening, and ends Updates and Wait that are under way ([ErrClosed]). What becomes of the job is up to its on_disconnect.
func (j *Job) Close() { j.follower.close() }

// next is the next revision that was not seen.
func (j *Job) next(ctx context.Context) (*virtrpcv1.Job, error) {
	for {
		update, err := j.follower.next(ctx)
		if err != nil {
			return nil, withJob(err, j.Latest())
		}
		if job := update.GetJob(); IsFinal(job) || job.GetRevision() > j.Latest().GetRevision() {
			j.follower.pauses.reset()
			j.latest.Store(job)
			return job, nil
		}
	}
}

// finish reads to the end, so that meshes record the verb's own status instead of a caller that left.
func (j *Job) finish() {
	if last := j.follower.current; last != nil {
		last.silence = endOfStream
		_, _ = last.receive() // the job's error as a status: Wait has it from the job
		j.follower.drop()
	}
}

func withJob(err error, job *virtrpcv1.Job) error {
	var failed *Error
	if errors.As(err, &failed) {
		failed.Job = job
	}
	return err
}
