package virtrpc_test

import (
	"errors"
	"testing"

	"virtrpc.dev/go/virtrpc"
	"virtrpc.dev/go/virtrpcv1"
)

// TestWatchResumes goes on after a broken connection with what has changed since, and tells nothing twice.
func TestWatchResumes(t *testing.T) {
	between, broken := newProxy(t, shared.address()), &breaks{}
	client, direct := connect(t, between.address(), broken.told()), connect(t, shared.address())
	cut := false
	for batch, err := range client.WatchDomains(within(t), &virtrpcv1.WatchDomainsRequest{Filter: &virtrpcv1.DomainFilter{NameGlob: "guest-7"}}) {
		if err != nil {
			t.Fatal(err)
		}
		if !cut && batch.GetCaughtUp() {
			cut = true
			between.cut()
			if _, err := run(t, direct, &virtrpcv1.SuspendDomainRequest{Domain: virtrpc.Domain("quick/guest-7")}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if cut && batch.GetReset_() {
			t.Fatal("it began anew")
		}
		if cut && len(batch.GetChanges()) > 0 {
			if changed := batch.GetChanges()[0].GetCurrent(); len(batch.GetChanges()) != 1 || changed.GetHost() != "quick" {
				t.Errorf("told were %v", batch)
			}
			break
		}
	}
	if broken.count.Load() == 0 {
		t.Error("nothing broke")
	}
}

// TestWatchBeginsWhereItIsTold takes a resume token of the caller's, and begins anew with a reset where the server cannot use it.
func TestWatchBeginsWhereItIsTold(t *testing.T) {
	client := connect(t, shared.address())
	filter := &virtrpcv1.JobFilter{}
	token := ""
	for batch, err := range client.WatchJobs(within(t), &virtrpcv1.WatchJobsRequest{Filter: filter}) {
		if err != nil {
			t.Fatal(err)
		}
		if token = batch.GetResumeToken(); batch.GetCaughtUp() {
			break
		}
	}
	for _, known := range []bool{true, false} {
		if !known {
			token = "rubbish"
		}
		for batch, err := range client.WatchJobs(within(t), &virtrpcv1.WatchJobsRequest{Filter: filter, ResumeToken: token}) {
			if err != nil || batch.GetReset_() == known {
				t.Errorf("with a good token (%v): %v, %v", known, batch, err)
			}
			break
		}
	}
}

// TestWatchBeginsAnewAfterARestart is told to forget everything, and then what the next server knows.
func TestWatchBeginsAnewAfterARestart(t *testing.T) {
	server := newServer(quick)
	server.start()
	defer server.remove()
	killed, reset := false, false
	for batch, err := range connect(t, server.address()).WatchDomains(within(t), nil) {
		switch {
		case err != nil:
			t.Fatal(err)
		case !killed && batch.GetCaughtUp():
			killed = true
			server.kill()
			server.start()
		case killed:
			reset = reset || batch.GetReset_()
			if reset && batch.GetCaughtUp() && len(batch.GetUnreachable()) == 0 {
				return
			}
		}
	}
}

// TestWatchIsRefused ends with the server's answer where that stays the same.
func TestWatchIsRefused(t *testing.T) {
	request := &virtrpcv1.WatchDomainsRequest{Filter: &virtrpcv1.DomainFilter{Hosts: []string{"nowhere"}}}
	for _, err := range connect(t, shared.address()).WatchDomains(within(t), request) {
		if !errors.Is(err, virtrpc.ErrNotFound) {
			t.Error(err)
		}
	}
}
