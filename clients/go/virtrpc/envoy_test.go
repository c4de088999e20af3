package virtrpc_test

import (
	"bufio"
	"encoding/json"
	"io"
	"path/filepath"
	"testing"

	"virtrpc.dev/go/virtrpc"
	"virtrpc.dev/go/virtrpcv1"
)

// TestThroughEnvoy does the main job through a real Envoy with the shipped configuration and certificates on both sides, and goes on when that is killed.
func TestThroughEnvoy(t *testing.T) {
	if testing.Short() {
		t.Skip("the first run fetches Envoy")
	}
	envoy := newStage(t)
	t.Run("main job", func(t *testing.T) { mainJob(t, envoy.address, "guest-1", envoy.as("client")) })
	t.Run("owner", func(t *testing.T) { ownsThroughEnvoy(t, envoy, "guest-2") })
	t.Run("strangers", func(t *testing.T) { strangersStayOut(t, envoy) })
	t.Run("restart", func(t *testing.T) { outlivesEnvoy(t, envoy, "guest-3") })
}

// ownsThroughEnvoy: a job belongs to whose certificate Envoy has seen.
func ownsThroughEnvoy(t *testing.T, envoy *stage, guest string) {
	client := connect(t, envoy.address, envoy.as("client"))
	done, err := run(t, client, &virtrpcv1.SuspendDomainRequest{Domain: virtrpc.Domain("quick/" + guest)})
	if err != nil || done.GetOwner() != "spiffe://example.org/ns/lab/sa/operator" {
		t.Error(done.GetOwner(), err)
	}
}

// strangersStayOut: who has no certificate, or none that is right, does not get through.
func strangersStayOut(t *testing.T, envoy *stage) {
	for _, who := range []string{"", "expired", "other"} {
		client := connect(t, envoy.address, envoy.as(who), virtrpc.WithTimeout(impatient))
		if _, err := client.Query.ListHosts(within(t), &virtrpcv1.ListHostsRequest{}); !errors.Is(err, virtrpc.ErrUnavailable) {
			t.Errorf("%q: %v", who, err)
		}
	}
}

// outlivesEnvoy: a job and a watch go on when Envoy is killed and comes back, and the job can be cancelled then.
func outlivesEnvoy(t *testing.T, envoy *stage, guest string) {
	client := connect(t, envoy.address, envoy.as("client"))
	job := start(t, client, &virtrpcv1.ManagedSaveDomainRequest{Domain: virtrpc.Domain("slow/" + guest)})
	until(t, job, isRunning)
	attached := client.Attach(job.ID())
	defer attached.Close()
	killed := false
	for batch, err := range client.WatchJobs(within(t), nil) {
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case !killed:
			envoy.restart(t)
			killed = true
			if _, err := attached.Cancel(within(t)); err != nil {
				t.Fatal(err)
			}
		case batch.GetReset_():
			t.Error("the watch began anew")
		}
		if tells(batch, job.ID(), virtrpcv1.JobState_JOB_STATE_CANCELLED) {
			break
		}
	}
	ended(t, job, virtrpc.ErrCancelled)
	ended(t, attached, virtrpc.ErrCancelled)
}
