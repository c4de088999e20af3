package virtrpc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"virtrpc.dev/go/virtrpc"
	"virtrpc.dev/go/virtrpcv1"
)

// breaks counts what broke.
type breaks struct{ count atomic.Int64 }

func (b *breaks) told() virtrpc.Option { return virtrpc.WithOnBroken(func(error) { b.count.Add(1) }) }

// TestJobSurvivesCutConnection goes on with a job whose connection breaks twice.
func TestJobSurvivesCutConnection(t *testing.T) {
	between, broken := newProxy(t, shared.address()), &breaks{}
	client := connect(t, between.address(), broken.told())
	job := start(t, client, save("slow/guest-3"))
	for range 2 {
		until(t, job, isRunning)
		between.cut()
		revision := job.Latest().GetRevision()
		until(t, job, func(latest *virtrpcv1.Job) bool { return latest.GetRevision() > revision })
	}
	cancel(t, job)
	ended(t, job, virtrpc.ErrCancelled)
	if broken.count.Load() == 0 {
		t.Error("nothing broke")
	}
}

// TestVerbRunsOnce sends a verb again whose acceptance never came back, and has the one job that the first call made.
func TestVerbRunsOnce(t *testing.T) {
	between, broken := newProxy(t, shared.address()), &breaks{}
	client, direct := connect(t, between.address(), broken.told()), connect(t, shared.address())
	domain(t, client, "slow/guest-4") // connected
	between.mute(true)
	go func() {
		var made []*virtrpcv1.Job
		if err := poll(func() error {
			if made = jobs(t, direct, "guest-4"); len(made) == 0 {
				return errors.New("no job was made")
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		between.cut()
	}()
	job := start(t, client, save("slow/guest-4"))
	if made := jobs(t, direct, "guest-4"); len(made) != 1 || made[0].GetJobId() != job.ID() {
		t.Errorf("%s, and made were %v", job.ID(), made)
	}
	if broken.count.Load() == 0 {
		t.Error("nothing broke")
	}
	cancel(t, job)
	ended(t, job, virtrpc.ErrCancelled)
}

// TestSilenceIsADeadConnection takes a stream up again whose heartbeats do not come although nothing was closed.
func TestSilenceIsADeadConnection(t *testing.T) {
	between := newProxy(t, shared.address())
	var told atomic.Value
	client := connect(t, between.address(), virtrpc.WithHeartbeat(200*time.Millisecond), virtrpc.WithOnBroken(func(err error) {
		told.CompareAndSwap(nil, err.Error())
		between.cut()
	}))
	job := start(t, client, save("slow/guest-5"))
	until(t, job, isRunning)
	between.mute(true)
	until(t, job, func(*virtrpcv1.Job) bool { return told.Load() != nil })
	if text := told.Load().(string); !strings.Contains(text, "nothing was heard") {
		t.Error(text)
	}
	cancel(t, job)
	ended(t, job, virtrpc.ErrCancelled)
}

// TestJobSurvivesKilledServer goes on with a job whose server is killed and started again: the next one has it from its journal.
func TestJobSurvivesKilledServer(t *testing.T) {
	server := newServer()
	simulated := server.command("python", "-m", "virtrpc_drivers.sim.daemon", "--socket", server.directory+"/sim")
	must(simulated.Start())
	defer func() {
		must(simulated.Process.Signal(syscall.SIGTERM))
		_ = simulated.Wait()
		server.remove()
	}()
	must(poll(func() error { _, err := os.Stat(server.directory + "/sim"); return err }))
	server.options = append(server.options, "--host", fmt.Sprintf("slow=sim://slow/?running=1&save_seconds=600&daemon=%s/sim", server.directory))
	server.start()
	broken := &breaks{}
	client := connect(t, server.address(), broken.told())
	job := start(t, client, save("guest-1"))
	until(t, job, isRunning)
	seen := make(chan error, 1)
	go func() {
		_, err := job.Wait(within(t))
		seen <- err
	}()
	server.kill()
	server.start()
	must(poll(func() error {
		answer, err := client.Jobs.GetJob(within(t), &virtrpcv1.GetJobRequest{JobId: job.ID()})
		if err == nil && !isRunning(answer.GetJob()) {
			return fmt.Errorf("not taken up yet: %v", answer)
		}
		return err
	}))
	cancel(t, job)
	if err := <-seen; !errors.Is(err, virtrpc.ErrCancelled) {
		t.Error(err)
	}
	if broken.count.Load() == 0 {
		t.Error("nothing broke")
	}
}

// TestForgottenJobIsAnError ends with the server's refusal where it does not know the job.
func TestForgottenJobIsAnError(t *testing.T) {
	job := connect(t, shared.address()).Attach("no-such-job")
	if _, err := job.Wait(within(t)); !errors.Is(err, virtrpc.ErrJobNotFound) || !errors.Is(err, virtrpc.ErrNotFound) {
		t.Error(err)
	}
}

// TestNobodyThere gives up after the time-out, where no server was ever heard of.
func TestNobodyThere(t *testing.T) {
	client := connect(t, "unix:///nonexistent/virtrpc.sock", virtrpc.WithTimeout(200*time.Millisecond))
	calls := map[string]func() error{
		"verb":   func() error { _, err := client.Start(within(t), save("guest-1")); return err },
		"read":   func() error { _, err := client.Query.ListHosts(within(t), &virtrpcv1.ListHostsRequest{}); return err },
		"attach": func() error { _, err := client.Attach("some-job").Wait(within(t)); return err },
		"watch": func() (last error) {
			for _, last = range client.WatchDomains(within(t), nil) {
			}
			return last
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			if err := call(); !errors.Is(err, virtrpc.ErrServerUnavailable) {
				t.Error(err)
			}
		})
	}
}

// TestContextEndsListening gives the context's error with the job as last seen; the job is taken up again by the next wait.
func TestContextEndsListening(t *testing.T) {
	job := start(t, connect(t, shared.address()), save("slow/guest-6"))
	ctx, leave := context.WithCancel(within(t))
	for latest, err := range job.Updates(ctx) {
		var failed *virtrpc.Error
		if errors.As(err, &failed) {
			if !errors.Is(err, context.Canceled) || failed.Job.GetJobId() != job.ID() {
				t.Error(err)
			}
			break
		}
		if isRunning(latest) {
			leave()
		}
	}
	until(t, job, isRunning)
	cancel(t, job)
	ended(t, job, virtrpc.ErrCancelled)
	leave()
}

func save(name string) *virtrpcv1.ManagedSaveDomainRequest {
	return &virtrpcv1.ManagedSaveDomainRequest{Domain: virtrpc.Domain(name)}
}

func cancel(t *testing.T, job *virtrpc.Job) {
	t.Helper()
	if answer, err := job.Cancel(within(t)); err != nil || answer.GetOutcome() != virtrpcv1.CancelOutcome_CANCEL_OUTCOME_ABORTING {
		t.Fatal(answer, err)
	}
}

// jobs are those of a guest on the slow host.
func jobs(t *testing.T, client *virtrpc.Client, guest string) (found []*virtrpcv1.Job) {
	for job, err := range virtrpc.All(within(t), client.Jobs.ListJobs, &virtrpcv1.ListJobsRequest{}, (*virtrpcv1.ListJobsResponse).GetJobs) {
		if err != nil {
			t.Error(err)
			return nil
		}
		if job.GetDomain().GetName() == guest && job.GetDomain().GetHost() == "slow" {
			found = append(found, job)
		}
	}
	return found
}
