package virtrpc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"virtrpc.dev/go/virtrpcv1"
)

const jobIDHeader = "virtrpc-job-id"

// A Verb is the request of an RPC that changes a domain: what has JobOptions, such as [*virtrpcv1.StartDomainRequest].
type Verb interface {
	proto.Message
	GetOptions() *virtrpcv1.JobOptions
}

// Start sends a verb, and returns as soon as the server has accepted it; ctx is for that long. Close the job when you are through with it.
//
// The request is not changed. What is sent has a request_id in any case, so that a call that breaks before its acceptance is known is repeated and
// the verb still runs once; that is done for as long as [WithTimeout] says. Where the server refuses, nothing was changed, and the error says why:
// [ErrNotFound], [ErrWrongState], [ErrBusy] and so on, as the verb's comment in the contract has them.
func (c *Client) Start(ctx context.Context, request Verb) (*Job, error) {
	method, known := verbs()[request.ProtoReflect().Descriptor().FullName()]
	if !known {
		return nil, fmt.Errorf("virtrpc: %T is no verb's request", request)
	}
	request, options := c.prepared(request)
	verb := call{method: method, request: request, silence: silenceOf(options.GetHeartbeat())}
	trials := newTrials(c.options.timeout)
	for {
		job, err := c.accepted(ctx, verb, options.GetHeartbeat())
		if err == nil {
			return job, nil
		}
		if ctx.Err() != nil {
			return nil, left(ctx)
		}
		if err := trials.pause(ctx, asError(err), c.broken); err != nil {
			return nil, err
		}
	}
}

// prepared is a copy of a request with all that this client needs, and its options.
func (c *Client) prepared(request Verb) (Verb, *virtrpcv1.JobOptions) {
	copied := proto.CloneOf(request)
	message := copied.ProtoReflect()
	message.Mutable(message.Descriptor().Fields().ByName("options"))
	options := copied.GetOptions()
	if options.RequestId == "" {
		options.RequestId = rand.Text()
	}
	if options.Heartbeat == nil {
		options.Heartbeat = durationpb.New(c.options.heartbeat)
	}
	return copied, options
}

func (c *Client) accepted(ctx context.Context, verb call, heartbeat *durationpb.Duration) (*Job, error) {
	job := c.newJob("", heartbeat)
	stream, err := open[virtrpcv1.JobUpdate](ctx, job.follower.life, c.conn, verb)
	if err == nil {
		defer context.AfterFunc(ctx, stream.end)()
		err = job.accept(stream)
	}
	if err != nil {
		job.Close()
		return nil, err
	}
	job.follower.current, job.follower.heard = stream, true
	return job, nil
}

// accept waits for the job's id.
func (j *Job) accept(stream *stream[virtrpcv1.JobUpdate]) error {
	header, err := stream.header()
	if err != nil {
		return err
	}
	if ids := header.Get(jobIDHeader); len(ids) > 0 {
		j.id = ids[0]
		return nil
	}
	// Without the id nothing was accepted, unless a proxy dropped the header: then the first message has it.
	update, err := stream.receive()
	if errors.Is(err, io.EOF) {
		return &Error{Code: codes.Internal, Message: "the server ended the call without a job"}
	}
	if err != nil {
		return err
	}
	j.id = update.GetJob().GetJobId()
	j.latest.Store(update.GetJob())
	return nil
}

// verbs are the RPCs that have jobs, by their request.
var verbs = sync.OnceValue(func() map[protoreflect.FullName]string {
	found := map[protoreflect.FullName]string{}
	for _, file := range []protoreflect.FileDescriptor{virtrpcv1.File_virtrpc_v1_job_proto, virtrpcv1.File_virtrpc_v1_snapshot_proto} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for i := range service.Methods().Len() {
				method := service.Methods().Get(i)
				found[method.Input().FullName()] = fmt.Sprintf("/%s/%s", service.FullName(), method.Name())
			}
		}
	}
	return found
})
