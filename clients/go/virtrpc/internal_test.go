package virtrpc

import (
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"virtrpc.dev/go/virtrpcv1"
)

// TestEveryVerbCanBeStarted holds what Start finds against the contract: every RPC whose answers are JobUpdates and whose request has JobOptions.
func TestEveryVerbCanBeStarted(t *testing.T) {
	update := (&virtrpcv1.JobUpdate{}).ProtoReflect().Descriptor().FullName()
	count := 0
	for _, file := range []protoreflect.FileDescriptor{
		virtrpcv1.File_virtrpc_v1_job_proto, virtrpcv1.File_virtrpc_v1_query_proto, virtrpcv1.File_virtrpc_v1_snapshot_proto,
	} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for i := range methods.Len() {
				method := methods.Get(i)
				if method.Output().FullName() != update || method.Input().Fields().ByName("options") == nil {
					continue
				}
				count++
				if path := verbs()[method.Input().FullName()]; path != "/virtrpc.v1."+string(method.Parent().Name())+"/"+string(method.Name()) {
					t.Errorf("%s: %q", method.FullName(), path)
				}
			}
		}
	}
	if count < 60 {
		t.Errorf("only %d verbs", count)
	}
}

// TestPausesGrow up to the longest, never shorter than a tenth of their bound or than what the server asks for.
func TestPausesGrow(t *testing.T) {
	p := pauses{longest: longestPause}
	bound := firstPause
	for range 100 {
		if pause := p.next(0); pause < bound/10 || pause > bound {
			t.Fatalf("%v of %v", pause, bound)
		}
		bound = min(longestPause, 2*bound)
	}
	if pause := p.next(7 * time.Second); pause < 7*time.Second || pause > 14*time.Second {
		t.Error(pause)
	}
	p.reset()
	if pause := p.next(0); pause > firstPause {
		t.Error(pause)
	}
}
