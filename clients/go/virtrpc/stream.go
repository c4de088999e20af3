package virtrpc

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// Heartbeats in a row that did not come: proxies swallow HTTP/2's pings, and no end of a stream may ever come.
	missedHeartbeats = 3
	// A machine that is busy is no dead connection.
	leastSilence = 5 * time.Second
)

func silenceOf(heartbeat *durationpb.Duration) time.Duration {
	return max(leastSilence, missedHeartbeats*heartbeat.AsDuration())
}

// call says what to open.
type call struct {
	method  string
	request proto.Message
	silence time.Duration
	patient bool
}

// stream is one open call that gives many answers. A silence that is too long ends it.
type stream[M any] struct {
	call    grpc.ClientStream
	end     func()
	silence time.Duration
	silent  atomic.Bool
}

// open opens a call that lasts as long as life, with what ctx carries but not with its end: that only ends the opening. A patient one waits for a
// server that is away, at no cost.
func open[M any](ctx, life context.Context, conn *grpc.ClientConn, call call) (*stream[M], error) {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	outlived := context.AfterFunc(life, cancel)
	s := &stream[M]{silence: call.silence, end: func() { outlived(); cancel() }}
	defer context.AfterFunc(ctx, cancel)()
	return s, s.heard(func() (err error) {
		if s.call, err = conn.NewStream(own, &grpc.StreamDesc{ServerStreams: true}, call.method, grpc.WaitForReady(call.patient)); err != nil {
			return err
		}
		if err := s.call.SendMsg(call.request); err != nil {
			return s.call.RecvMsg(new(M)) // the status, where sending only says that the call is over
		}
		return s.call.CloseSend()
	})
}

// header waits for the server's first sign of life; it is empty where the call failed before it gave any.
func (s *stream[M]) header() (header metadata.MD, err error) {
	return header, s.heard(func() (err error) {
		header, err = s.call.Header()
		return err
	})
}

// receive waits for the next answer; io.EOF where the call ended with OK.
func (s *stream[M]) receive() (*M, error) {
	message := new(M)
	if err := s.heard(func() error { return s.call.RecvMsg(message) }); err != nil {
		return nil, err
	}
	return message, nil
}

// heard does what waits for the server, and ends the call where that fails or takes too long.
func (s *stream[M]) heard(wait func() error) error {
	alarm := time.AfterFunc(s.silence, func() {
		s.silent.Store(true)
		s.end()
	})
	err := wait()
	alarm.Stop()
	if err == nil {
		return nil
	}
	s.end()
	if s.silent.Load() {
		return unheard(s.silence)
	}
	return err
}
