package virtrpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// unary types the errors of a call with one answer, and repeats what the channel does not repeat by itself: a server that is going down, or only just
// up, says when to come again.
func (c *Client) unary(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	if _, set := ctx.Deadline(); !set {
		limited, cancel := context.WithTimeout(ctx, c.options.timeout)
		defer cancel()
		ctx = limited
	}
	trials := newTrials(c.options.timeout)
	for {
		err := invoke(ctx, method, request, reply, conn, options...)
		if err == nil {
			return nil
		}
		failed := fromCall(ctx, err)
		if failed.RetryDelay == 0 {
			return failed
		}
		if err := trials.pause(ctx, failed, func(error) {}); err != nil {
			return err
		}
	}
}

// stream types the errors of a call with many answers.
func (c *Client) stream(
	ctx context.Context, description *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	call, err := open(ctx, description, conn, method, options...)
	if err != nil {
		return nil, fromCall(ctx, err)
	}
	return typedStream{call}, nil
}

type typedStream struct{ grpc.ClientStream }

func (s typedStream) Header() (metadata.MD, error) {
	header, err := s.ClientStream.Header()
	return header, s.typed(err)
}

func (s typedStream) SendMsg(message any) error { return s.typed(s.ClientStream.SendMsg(message)) }

func (s typedStream) RecvMsg(message any) error { return s.typed(s.ClientStream.RecvMsg(message)) }

func (s typedStream) typed(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fromCall(s.Context(), err)
}
