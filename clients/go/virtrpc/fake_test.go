package virtrpc_test

import (
	"context"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"virtrpc.dev/go/virtrpc"
	"virtrpc.dev/go/virtrpcv1"
)

// fake is a server that says what the real one seldom says, and remembers what it was told.
type fake struct {
	virtrpcv1.UnimplementedQueryServiceServer
	virtrpcv1.UnimplementedJobServiceServer
	refusals  atomic.Int64 // how often it still says that it goes down
	header    atomic.Value // of the last call
	requestID atomic.Value // of the last verb
}

func (f *fake) answer(ctx context.Context) error {
	header, _ := metadata.FromIncomingContext(ctx)
	f.header.Store(header)
	if f.refusals.Add(-1) < 0 {
		return nil
	}
	refused, err := status.New(codes.Unavailable, "going down").WithDetails(
		&errdetails.ErrorInfo{Domain: "virtrpc", Reason: "DRAINING"}, &errdetails.RetryInfo{RetryDelay: durationpb.New(10 * time.Millisecond)},
	)
	must(err)
	return refused.Err()
}

func (f *fake) GetHost(ctx context.Context, _ *virtrpcv1.GetHostRequest) (*virtrpcv1.GetHostResponse, error) {
	return &virtrpcv1.GetHostResponse{}, f.answer(ctx)
}

// StartDomain gives no header with the job's id, as if a proxy had dropped it, and ends without a final state.
func (f *fake) StartDomain(request *virtrpcv1.StartDomainRequest, stream grpc.ServerStreamingServer[virtrpcv1.JobUpdate]) error {
	if err := f.answer(stream.Context()); err != nil {
		return err
	}
	f.requestID.Store(request.GetOptions().GetRequestId())
	return stream.Send(&virtrpcv1.JobUpdate{Job: &virtrpcv1.Job{JobId: "the-job", Revision: 1, State: virtrpcv1.JobState_JOB_STATE_RUNNING}})
}

func (f *fake) WatchJob(request *virtrpcv1.WatchJobRequest, stream grpc.ServerStreamingServer[virtrpcv1.JobUpdate]) error {
	job := &virtrpcv1.Job{JobId: request.GetJobId(), Revision: 2, State: virtrpcv1.JobState_JOB_STATE_SUCCEEDED}
	return stream.Send(&virtrpcv1.JobUpdate{Job: job})
}

func serveFake(t *testing.T, listener net.Listener, options ...grpc.ServerOption) *fake {
	t.Helper()
	made, server := &fake{}, grpc.NewServer(options...)
	virtrpcv1.RegisterQueryServiceServer(server, made)
	virtrpcv1.RegisterJobServiceServer(server, made)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return made
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// TestRetryInfoIsHonoured tries reads and verbs again where the server says when.
func TestRetryInfoIsHonoured(t *testing.T) {
	listener := listen(t, "tcp", "127.0.0.1:0")
	server := serveFake(t, listener)
	client := connect(t, listener.Addr().String())
	server.refusals.Store(5)
	if _, err := client.Query.GetHost(within(t), &virtrpcv1.GetHostRequest{}); err != nil {
		t.Error(err)
	}
	server.refusals.Store(2)
	start(t, client, &virtrpcv1.StartDomainRequest{})
}

// TestStreamWithoutEndIsTakenUp goes on with WatchJob where the verb's call ends with OK too soon; the id may come with the first message alone.
func TestStreamWithoutEndIsTakenUp(t *testing.T) {
	listener := listen(t, "tcp", "127.0.0.1:0")
	server := serveFake(t, listener)
	request := &virtrpcv1.StartDomainRequest{}
	job := start(t, connect(t, listener.Addr().String()), request)
	done, err := job.Wait(within(t))
	if err != nil || job.ID() != "the-job" || done.GetRevision() != 2 {
		t.Error(done, err)
	}
	if server.requestID.Load() == "" || request.Options != nil {
		t.Errorf("request_id %v; the caller's request: %v", server.requestID.Load(), request)
	}
}

// TestTokenGoesAlong sends a token over a Unix socket, anew from its file each time, and nowhere without TLS.
func TestTokenGoesAlong(t *testing.T) {
	directory := t.TempDir()
	server := serveFake(t, listen(t, "unix", directory+"/s"))
	client := connect(t, directory+"/s", virtrpc.WithTokenFile(directory+"/token"))
	for _, token := range []string{"one", "two"} {
		must(os.WriteFile(directory+"/token", []byte(token+"\n"), 0o600))
		if _, err := client.Query.GetHost(within(t), &virtrpcv1.GetHostRequest{}); err != nil {
			t.Fatal(err)
		}
		if told := server.header.Load().(metadata.MD).Get("authorization"); len(told) != 1 || told[0] != "Bearer "+token {
			t.Error(told)
		}
	}
	if _, err := virtrpc.NewClient("virt.example:50051", virtrpc.WithToken("one")); err == nil {
		t.Error("a token would be sent in the clear")
	}
	t.Setenv("VIRTRPC_TOKEN", "three")
	if _, err := connect(t, directory+"/s").Query.GetHost(within(t), &virtrpcv1.GetHostRequest{}); err != nil {
		t.Error(err)
	}
	if told := server.header.Load().(metadata.MD).Get("authorization"); len(told) != 1 || told[0] != "Bearer three" {
		t.Error(told)
	}
}

// TestContextGoesAlong sends why a caller calls and what its interceptors add, with streams that are opened anew too.
func TestContextGoesAlong(t *testing.T) {
	listener := listen(t, "tcp", "127.0.0.1:0")
	server := serveFake(t, listener)
	var trace grpc.StreamClientInterceptor = func(
		ctx context.Context, d *grpc.StreamDesc, c *grpc.ClientConn, method string, open grpc.Streamer, o ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		return open(metadata.AppendToOutgoingContext(ctx, "traceparent", "of the interceptor"), d, c, method, o...)
	}
	client := connect(t, listener.Addr().String(), virtrpc.WithDialOptions(grpc.WithChainStreamInterceptor(trace)))
	job, err := client.Start(virtrpc.Because(within(t), "100 % of Königsberg"), &virtrpcv1.StartDomainRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer job.Close()
	told := server.header.Load().(metadata.MD)
	if len(told.Get("traceparent")) != 1 || told.Get("virtrpc-reason")[0] != "100 %25 of K%C3%B6nigsberg" {
		t.Error(told)
	}
}
