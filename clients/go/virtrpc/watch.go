package virtrpc

import (
	"context"
	"iter"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"virtrpc.dev/go/virtrpcv1"
)

// WatchDomains follows the domains that fit the request's filter; nil means all. It gives batches, heartbeats included, until ctx ends, and begins
// where the request's resume_token says.
//
// After a broken connection it resumes after the last batch that was taken. Where the server no longer knows that point, the next batch has reset
// set: forget everything you hold before you apply it. An error is the last that comes: the server refuses, or could not be reached at the very
// first for as long as [WithTimeout] says, or ctx ended.
func (c *Client) WatchDomains(ctx context.Context, request *virtrpcv1.WatchDomainsRequest) iter.Seq2[*virtrpcv1.WatchDomainsResponse, error] {
	asked := &virtrpcv1.WatchDomainsRequest{}
	proto.Merge(asked, request)
	c.pace(&asked.Heartbeat)
	return watch(ctx, c, watched[virtrpcv1.WatchDomainsResponse]{
		call:     call{method: virtrpcv1.QueryService_WatchDomains_FullMethodName, request: asked, silence: silenceOf(asked.Heartbeat)},
		token:    &asked.ResumeToken,
		newToken: (*virtrpcv1.WatchDomainsResponse).GetResumeToken,
		forget:   func(batch *virtrpcv1.WatchDomainsResponse) { batch.Reset_ = true },
	})
}

// WatchJobs follows the jobs that fit the request's filter; nil means all. See [Client.WatchDomains].
func (c *Client) WatchJobs(ctx context.Context, request *virtrpcv1.WatchJobsRequest) iter.Seq2[*virtrpcv1.WatchJobsResponse, error] {
	asked := &virtrpcv1.WatchJobsRequest{}
	proto.Merge(asked, request)
	c.pace(&asked.Heartbeat)
	return watch(ctx, c, watched[virtrpcv1.WatchJobsResponse]{
		call:     call{method: virtrpcv1.JobService_WatchJobs_FullMethodName, request: asked, silence: silenceOf(asked.Heartbeat)},
		token:    &asked.ResumeToken,
		newToken: (*virtrpcv1.WatchJobsResponse).GetResumeToken,
		forget:   func(batch *virtrpcv1.WatchJobsResponse) { batch.Reset_ = true },
	})
}

func (c *Client) pace(heartbeat **durationpb.Duration) {
	if *heartbeat == nil {
		*heartbeat = durationpb.New(c.options.heartbeat)
	}
}

// watched is what the two watches differ in.
type watched[M any] struct {
	call
	token    *string // in the request
	newToken func(*M) string
	forget   func(*M)
}

func watch[M any](ctx context.Context, c *Client, w watched[M]) iter.Seq2[*M, error] {
	return func(yield func(*M, error) bool) {
		lost := false
		follower := newFollower[M](c, func() call { return w.call })
		defer follower.close()
		follower.forgive = func(failed *Error) bool {
			if failed.Reason != "RESUME_TOKEN_INVALID" || *w.token == "" {
				return false
			}
			*w.token, lost = "", true
			return true
		}
		for {
			batch, err := follower.next(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			if lost {
				w.forget(batch) // the server threw our token away, whatever it says
			}
			*w.token, lost = w.newToken(batch), false
			follower.pauses.reset()
			if !yield(batch, nil) {
				return
			}
		}
	}
}
