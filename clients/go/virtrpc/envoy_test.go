package virtrpc_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

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
		client := connect(t, envoy.address, envoy.as(who), virtrpc.WithTimeout(500*time.Millisecond))
		if _, err := client.Query.ListHosts(within(t), &virtrpcv1.ListHostsRequest{}); !errors.Is(err, virtrpc.ErrServerUnavailable) {
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
	caughtUp := false
	for batch, err := range client.WatchJobs(within(t), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if caughtUp && batch.GetReset_() {
			t.Fatal("the watch began anew")
		}
		if batch.GetCaughtUp() && !caughtUp {
			caughtUp = true
			envoy.restart()
			if answer, err := attached.Cancel(within(t)); err != nil {
				t.Fatal(answer, err)
			}
		}
		if tells(batch, job.ID(), virtrpcv1.JobState_JOB_STATE_CANCELLED) {
			break
		}
	}
	ended(t, job, virtrpc.ErrCancelled)
	ended(t, attached, virtrpc.ErrCancelled)
}

func tells(batch *virtrpcv1.WatchJobsResponse, job string, state virtrpcv1.JobState) bool {
	return slices.ContainsFunc(batch.GetChanges(), func(change *virtrpcv1.JobChange) bool {
		return change.GetCurrent().GetJobId() == job && change.GetCurrent().GetState() == state
	})
}

// stage is tests/mesh/stage.py: a server of its own and Envoy in front of it, with certificates.
type stage struct {
	address   string
	directory string
	input     io.WriteCloser
	output    *bufio.Reader
	log       *server
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{log: newServer(), directory: t.TempDir()}
	command := s.log.command("python", "-m", "tests.mesh.stage", "--secured", s.directory, "--host", quick, "--host", slow)
	command.Stdout = nil
	input, err := command.StdinPipe() // it ends when this closes
	must(err)
	output, err := command.StdoutPipe()
	must(err)
	must(command.Start())
	t.Cleanup(func() {
		must(input.Close())
		if err := command.Wait(); err != nil {
			t.Error(err, s.log.log())
		}
		s.log.removeFiles()
	})
	s.input, s.output = input, bufio.NewReader(output)
	s.address = s.says().Envoy
	return s
}

// restart kills Envoy and starts it again where it was.
func (s *stage) restart() {
	_, err := io.WriteString(s.input, "restart\n")
	must(err)
	s.says()
}

func (s *stage) says() (said struct{ Envoy string }) {
	line, err := s.output.ReadBytes('\n')
	if err != nil {
		panic(s.log.log())
	}
	must(json.Unmarshal(line, &said))
	return said
}

// as is somebody with a certificate of this name, or with none.
func (s *stage) as(name string) virtrpc.Option {
	files := virtrpc.TLSFiles{CA: s.directory + "/mesh-ca.pem"}
	if name != "" {
		files.Certificate, files.Key = s.directory+"/"+name+".pem", s.directory+"/"+name+".key"
	}
	return virtrpc.WithTLS(files)
}
