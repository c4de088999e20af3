package virtrpc_test

import (
	"fmt"
	"runtime"
	"testing"

	"virtrpc.dev/go/virtrpc"
	"virtrpc.dev/go/virtrpcv1"
)

// TestNothingIsLeft has no goroutine more than before once jobs and watches are through or left, and the client is closed.
func TestNothingIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	client, err := virtrpc.NewClient(shared.address())
	must(err)
	for range 10 {
		for _, request := range []virtrpc.Verb{
			&virtrpcv1.SuspendDomainRequest{Domain: virtrpc.Domain("quick/guest-8")}, &virtrpcv1.ResumeDomainRequest{Domain: virtrpc.Domain("quick/guest-8")},
		} {
			if _, err := run(t, client, request); err != nil {
				t.Fatal(err)
			}
		}
		for range client.WatchDomains(within(t), nil) {
			break
		}
		left := client.Attach("no-such-job")
		_, _ = left.Wait(within(t))
		left.Close()
	}
	must(client.Close())
	if err := poll(func() error {
		if now := runtime.NumGoroutine(); now > before {
			return fmt.Errorf("%d goroutines were %d", now, before)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
