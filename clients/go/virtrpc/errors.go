package virtrpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"virtrpc.dev/go/virtrpcv1"
)

const errorDomain = "virtrpc"

// ErrClosed is what a job gives that was closed here before its end was seen.
var ErrClosed = errors.New("virtrpc: closed here")

// An Error is what a call or a job failed with. Find it by [errors.As], its kind by [errors.Is].
type Error struct {
	// Code is the gRPC status.
	Code codes.Code
	// Reason is an ErrorReason of the contract without its prefix, such as "BUSY"; empty where no virtrpc server said it, such as a broken
	// connection. docs/errors.md has all of them, with what to do.
	Reason string
	// Message is for people.
	Message string
	// Metadata has the pairs that the contract names at the reason: "holder_job_id", "state", "field" ...
	Metadata map[string]string
	// RetryDelay is how long the server asks to be left alone before a retry; zero where it does not say.
	RetryDelay time.Duration
	// Job is the job as last seen, where a job failed or was lost sight of.
	Job *virtrpcv1.Job

	grpc  *status.Status
	cause error
}

// Error says the reason and what the server wrote.
func (e *Error) Error() string {
	name := e.Reason
	if name == "" {
		name = e.Code.String()
	}
	if e.Message == "" {
		return "virtrpc: " + name
	}
	return fmt.Sprintf("virtrpc: %s: %s", name, e.Message)
}

// Is reports whether target is its [Kind], or one that includes it.
func (e *Error) Is(target error) bool {
	for kind := e.Kind(); kind != nil; kind = kind.of {
		if target == kind {
			return true
		}
	}
	return false
}

// Unwrap is the context's error, where a context ended the call.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus is the same as a gRPC status, details included.
func (e *Error) GRPCStatus() *status.Status {
	if e.grpc != nil {
		return e.grpc
	}
	return status.New(e.Code, e.Message)
}

// wasCut says that it was no answer of a server, or one that sends us elsewhere.
func (e *Error) wasCut() bool {
	switch e.Code {
	case codes.Unavailable, codes.Canceled, codes.Internal, codes.Unknown:
		return e.cause == nil && (e.Reason == "" || e.Reason == "DRAINING")
	default:
		return false
	}
}

// passing says that a retry will do: the call was cut, or the server says when to come again.
func (e *Error) passing() bool { return e.wasCut() || e.RetryDelay > 0 }

// refusal says that the answer stays the same however often one asks. One that says when to ask again is none, such as that of a token that has ended.
func (e *Error) refusal() bool {
	if e.RetryDelay > 0 {
		return false
	}
	for _, kind := range []*Kind{ErrNotFound, ErrInvalidArgument, ErrAmbiguousName, ErrPermissionDenied, ErrUnauthenticated, ErrUnimplemented} {
		if e.Is(kind) {
			return true
		}
	}
	return false
}

// fromStatus is the error of a call, with its ErrorInfo and RetryInfo.
func fromStatus(err error) *Error {
	told, _ := status.FromError(err)
	failed := &Error{Code: told.Code(), Message: told.Message(), grpc: told}
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				failed.Reason, failed.Metadata = detail.GetReason(), detail.GetMetadata()
			}
		case *errdetails.RetryInfo:
			failed.RetryDelay = detail.GetRetryDelay().AsDuration()
		}
	}
	return failed
}

// fromCall is the same of a call under a context, whose own end goes before what gRPC makes of it.
func fromCall(ctx context.Context, err error) *Error {
	failed := asError(err)
	if ctx.Err() != nil && failed.Reason == "" && (failed.Code == codes.Canceled || failed.Code == codes.DeadlineExceeded) {
		failed.cause = ctx.Err()
	}
	return failed
}

// fromJob is the error of a job that ended otherwise than SUCCEEDED.
func fromJob(job *virtrpcv1.Job) *Error {
	told := job.GetError()
	return &Error{Code: codes.Code(told.GetCode()), Reason: told.GetReason(), Message: told.GetMessage(), Metadata: told.GetMetadata(), Job: job}
}

// left is the error of who stopped listening because the context ended.
func left(ctx context.Context) *Error {
	cause := errors.Join(ctx.Err(), context.Cause(ctx))
	return &Error{Code: status.FromContextError(ctx.Err()).Code(), Message: "you stopped listening", cause: cause}
}

func unheard(silence time.Duration) *Error {
	return &Error{Code: codes.Unavailable, Message: fmt.Sprintf("nothing was heard for %v", silence)}
}
