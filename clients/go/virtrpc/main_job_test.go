package virtrpc_test

import (
	"errors"
	"testing"

	"virtrpc.dev/go/virtrpc"
	"virtrpc.dev/go/virtrpcv1"
)

// TestMainJob lists, saves with progress, cancels and attaches again, over the Unix socket and over TCP.
func TestMainJob(t *testing.T) {
	t.Run("unix", func(t *testing.T) { mainJob(t, shared.address(), "guest-1") })
	t.Run("tcp", func(t *testing.T) { mainJob(t, newProxy(t, shared.address()).address(), "guest-2") })
}

func mainJob(t *testing.T, address, guest string, options ...virtrpc.Option) {
	client := connect(t, address, options...)
	t.Run("list", func(t *testing.T) { lists(t, client, guest) })
	t.Run("save", func(t *testing.T) { saves(t, client, "quick/"+guest) })
	t.Run("cancel", func(t *testing.T) { cancels(t, client, "slow/"+guest) })
	t.Run("attach", func(t *testing.T) { attaches(t, client, "slow/"+guest) })
}

// lists finds the guest on both hosts, whatever the pages.
func lists(t *testing.T, client *virtrpc.Client, guest string) {
	request := &virtrpcv1.ListDomainsRequest{PageSize: 3}
	var hosts []string
	for domain, err := range virtrpc.All(within(t), client.Query.ListDomains, request, (*virtrpcv1.ListDomainsResponse).GetDomains) {
		if err != nil {
			t.Fatal(err)
		}
		if domain.GetName() == guest {
			hosts = append(hosts, domain.GetHost())
		}
	}
	if len(hosts) != 2 || hosts[0] != "quick" || hosts[1] != "slow" {
		t.Errorf("found on %v", hosts)
	}
	if request.GetPageToken() != "" {
		t.Error("the request was changed")
	}
}

// saves follows a managed save to its end, with progress, and its effect is there.
func saves(t *testing.T, client *virtrpc.Client, name string) {
	job := start(t, client, &virtrpcv1.ManagedSaveDomainRequest{Domain: virtrpc.Domain(name)})
	revision, progressed := int64(0), false
	for latest, err := range job.Updates(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if latest.GetRevision() <= revision {
			t.Errorf("revision %d after %d", latest.GetRevision(), revision)
		}
		revision = latest.GetRevision()
		progressed = progressed || latest.GetProgress().GetPercent() > 0
	}
	if done, err := job.Wait(within(t)); err != nil || done.GetState() != virtrpcv1.JobState_JOB_STATE_SUCCEEDED || !progressed {
		t.Errorf("ended with %v, %v; progress: %v", done, err, progressed)
	}
	if !domain(t, client, name).GetHasManagedSave() {
		t.Error("there is no image")
	}
	if _, err := run(t, client, &virtrpcv1.StartDomainRequest{Domain: virtrpc.Domain(name)}); err != nil {
		t.Error(err)
	}
}

// cancels a managed save: it ends CANCELLED, and the guest runs on.
func cancels(t *testing.T, client *virtrpc.Client, name string) {
	job := start(t, client, &virtrpcv1.ManagedSaveDomainRequest{Domain: virtrpc.Domain(name)})
	until(t, job, isRunning)
	answer, err := job.Cancel(within(t))
	if err != nil || answer.GetOutcome() != virtrpcv1.CancelOutcome_CANCEL_OUTCOME_ABORTING {
		t.Fatal(answer, err)
	}
	ended(t, job, virtrpc.ErrCancelled)
	if state := domain(t, client, name).GetState(); state != virtrpcv1.DomainState_DOMAIN_STATE_RUNNING {
		t.Error(state)
	}
}

// attaches to a job that it has left, and which went on.
func attaches(t *testing.T, client *virtrpc.Client, name string) {
	leaving := &virtrpcv1.JobOptions{OnDisconnect: virtrpcv1.OnDisconnect_ON_DISCONNECT_DETACH}
	left := start(t, client, &virtrpcv1.ManagedSaveDomainRequest{Domain: virtrpc.Domain(name), Options: leaving})
	left.Close()
	if _, err := left.Wait(within(t)); !errors.Is(err, virtrpc.ErrClosed) {
		t.Error(err)
	}
	again := client.Attach(left.ID())
	defer again.Close()
	until(t, again, isRunning)
	if _, err := again.Cancel(within(t)); err != nil {
		t.Fatal(err)
	}
	ended(t, again, virtrpc.ErrCancelled)
}

// ended holds that a job ends with an error of this kind that has the job.
func ended(t *testing.T, job *virtrpc.Job, kind *virtrpc.Kind) {
	t.Helper()
	_, err := job.Wait(within(t))
	var failed *virtrpc.Error
	if !errors.Is(err, kind) || !errors.As(err, &failed) || failed.Job.GetJobId() != job.ID() {
		t.Errorf("ended with %v", err)
	}
}
