package virtrpc_test

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"virtrpc.dev/go/virtrpc"
	"virtrpc.dev/go/virtrpcv1"
)

// TestDomainNotFound has the reason, its metadata and the gRPC status, for a read and for a verb.
func TestDomainNotFound(t *testing.T) {
	client, nobody := connect(t, shared.address()), virtrpc.Domain("quick/nobody")
	_, read := client.Query.GetDomain(within(t), &virtrpcv1.GetDomainRequest{Target: &virtrpcv1.GetDomainRequest_Domain{Domain: nobody}})
	_, verb := run(t, client, &virtrpcv1.StartDomainRequest{Domain: nobody})
	for _, err := range []error{read, verb} {
		var failed *virtrpc.Error
		if !errors.As(err, &failed) || failed.Reason != "DOMAIN_NOT_FOUND" || failed.Metadata["host"] != "quick" {
			t.Errorf("%#v", err)
		}
		if !errors.Is(err, virtrpc.ErrNotFound) || errors.Is(err, virtrpc.ErrJobNotFound) || status.Code(err) != codes.NotFound {
			t.Error(err)
		}
	}
}

// TestBusy names the job that is in the way.
func TestBusy(t *testing.T) {
	client := connect(t, shared.address())
	holder := start(t, client, save("slow/guest-8"))
	until(t, holder, isRunning)
	options := &virtrpcv1.JobOptions{WaitTimeout: durationpb.New(0)}
	_, err := run(t, client, &virtrpcv1.SuspendDomainRequest{Domain: virtrpc.Domain("slow/guest-8"), Options: options})
	var failed *virtrpc.Error
	if !errors.As(err, &failed) || failed.Metadata["holder_job_id"] != holder.ID() {
		t.Errorf("%#v", err)
	}
	if !errors.Is(err, virtrpc.ErrBusy) || !errors.Is(err, virtrpc.ErrAborted) || errors.Is(err, virtrpc.ErrWaitTimeout) {
		t.Error(err)
	}
	cancel(t, holder)
	ended(t, holder, virtrpc.ErrCancelled)
}

// TestWrongState is refused before there is a job.
func TestWrongState(t *testing.T) {
	_, err := connect(t, shared.address()).Start(within(t), &virtrpcv1.StartDomainRequest{Domain: virtrpc.Domain("quick/guest-3")})
	if !errors.Is(err, virtrpc.ErrWrongState) || !errors.Is(err, virtrpc.ErrFailedPrecondition) {
		t.Error(err)
	}
}

// TestKindOfWhatNoServerSaid goes by the status code.
func TestKindOfWhatNoServerSaid(t *testing.T) {
	for code, kind := range map[codes.Code]*virtrpc.Kind{
		codes.Unavailable:        virtrpc.ErrServerUnavailable,
		codes.Canceled:           virtrpc.ErrServerUnavailable,
		codes.DeadlineExceeded:   virtrpc.ErrDeadlineExceeded,
		codes.FailedPrecondition: virtrpc.ErrFailedPrecondition,
		codes.Unknown:            virtrpc.ErrInternal,
		codes.DataLoss:           virtrpc.ErrInternal,
	} {
		if told := (&virtrpc.Error{Code: code}).Kind(); told != kind {
			t.Errorf("%v: %v", code, told)
		}
	}
	if newer := (&virtrpc.Error{Code: codes.Unknown, Reason: "OF_A_NEWER_SERVER"}); !errors.Is(newer, virtrpc.ErrOutcomeUnknown) {
		t.Error(newer)
	}
}
