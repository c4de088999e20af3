package virtrpc_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"virtrpc.dev/go/virtrpc"
	"virtrpc.dev/go/virtrpcv1"
)

// guard is when a wait is called a hang.
const guard = 60 * time.Second

const (
	// quick has saves that take a moment, slow has saves that do not end.
	quick = "quick=sim://quick/?domains=8&running=8&save_seconds=1.5&progress_seconds=0.05"
	slow  = "slow=sim://slow/?domains=8&running=8&save_seconds=600&progress_seconds=0.05"
)

// shared is a server for tests that leave it alone; each takes guests of its own.
var shared *server

func TestMain(m *testing.M) {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "VIRTRPC_") {
			must(os.Unsetenv(name)) // what the developer's own client is told
		}
	}
	shared = newServer(quick, slow)
	shared.start()
	code := m.Run()
	shared.remove()
	os.Exit(code)
}

// server is the real virtrpcd as a process, with a directory of its own.
type server struct {
	directory string
	process   *exec.Cmd
	ended     chan struct{}
	options   []string
	logs      *os.File
}

func newServer(hosts ...string) *server {
	directory, err := os.MkdirTemp("", "virtrpc-go-") // not the test's own directory: a socket's path must be short
	must(err)
	s := &server{directory: directory, options: []string{"--socket", directory + "/s", "--state-dir", directory + "/state", "--drain-timeout", "0"}}
	must(os.WriteFile(directory+"/toml", nil, 0o600))
	s.logs, err = os.OpenFile(directory+"/log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(err)
	s.options = append(s.options, "--config", directory+"/toml")
	for _, host := range hosts {
		s.options = append(s.options, "--host", host)
	}
	return s
}

func (s *server) address() string { return "unix://" + s.directory + "/s" }

// tcp is where it listens, having been told to take any port of 127.0.0.1.
func (s *server) tcp() string { return regexp.MustCompile(`127\.0\.0\.1:[1-9]\d*`).FindString(s.log()) }

// start starts it, and returns once its hosts are there.
func (s *server) start() {
	s.process = s.command("virtrpcd", append([]string{"serve"}, s.options...)...)
	must(s.process.Start())
	s.ended = make(chan struct{})
	go func(process *exec.Cmd, ended chan struct{}) { _ = process.Wait(); close(ended) }(s.process, s.ended)
	client, err := virtrpc.NewClient(s.address())
	must(err)
	defer client.Close()
	if err := poll(func() error { return s.live(client) }); err != nil {
		panic(fmt.Sprintf("%v; the server's log:\n%s", err, s.log()))
	}
}

// live gives an error while not every host is.
func (s *server) live(client *virtrpc.Client) error {
	select {
	case <-s.ended:
		panic("virtrpcd has ended:\n" + s.log())
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for host, err := range virtrpc.All(ctx, client.Query.ListHosts, &virtrpcv1.ListHostsRequest{}, (*virtrpcv1.ListHostsResponse).GetHosts) {
		if err != nil || host.GetState() != virtrpcv1.Freshness_FRESHNESS_LIVE {
			return fmt.Errorf("%v is not live: %w", host.GetName(), err)
		}
	}
	return nil
}

// command is a program of the checkout's environment; what it says goes to the log.
func (s *server) command(name string, arguments ...string) *exec.Cmd {
	program := filepath.Join(checkout(), ".venv/bin", name)
	if _, err := os.Stat(program); err != nil {
		panic(program + " is missing: run `make setup`")
	}
	command := exec.Command(program, arguments...)
	command.Stdout, command.Stderr, command.Dir = s.logs, s.logs, checkout()
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // a test that panics leaves nothing running
	return command
}

func (s *server) log() string {
	text, _ := os.ReadFile(s.directory + "/log")
	return string(text)
}

// kill ends it without asking.
func (s *server) kill() { s.end(syscall.SIGKILL) }

func (s *server) end(signal os.Signal) {
	must(s.process.Process.Signal(signal))
	<-s.ended
}

// remove ends it in good order, with all that is left of it.
func (s *server) remove() {
	s.end(syscall.SIGTERM)
	s.removeFiles()
}

func (s *server) removeFiles() {
	must(s.logs.Close())
	must(os.RemoveAll(s.directory))
}

func checkout() string {
	directory, err := filepath.Abs("../../..")
	must(err)
	return directory
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// poll asks until there is no error, and gives the last one when the guard has passed.
func poll(condition func() error) error {
	for end := time.Now().Add(guard); ; time.Sleep(10 * time.Millisecond) {
		if err := condition(); err == nil || time.Now().After(end) {
			return err
		}
	}
}

// within is the test's context, with a guard against hanging.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), guard)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T, address string, options ...virtrpc.Option) *virtrpc.Client {
	t.Helper()
	// A machine with other load is no server that is away.
	client, err := virtrpc.NewClient(address, append([]virtrpc.Option{virtrpc.WithTimeout(guard)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// start sends a verb that must be accepted.
func start(t *testing.T, client *virtrpc.Client, request virtrpc.Verb) *virtrpc.Job {
	t.Helper()
	job, err := client.Start(within(t), request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(job.Close)
	return job
}

// run sends a verb and gives its end, or the error of either.
func run(t *testing.T, client *virtrpc.Client, request virtrpc.Verb) (*virtrpcv1.Job, error) {
	job, err := client.Start(within(t), request)
	if err != nil {
		return nil, err
	}
	defer job.Close()
	return job.Wait(within(t))
}

// until follows a job to where it fits.
func until(t *testing.T, job *virtrpc.Job, fits func(*virtrpcv1.Job) bool) {
	t.Helper()
	for latest, err := range job.Updates(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if fits(latest) {
			return
		}
	}
	t.Fatalf("it ended first: %v", job.Latest())
}

// isRunning says that the hypervisor is at work on it: there is progress, and it can be aborted.
func isRunning(job *virtrpcv1.Job) bool {
	return job.GetState() == virtrpcv1.JobState_JOB_STATE_RUNNING && job.GetAbortable() && job.GetProgress().GetPercent() > 0
}

func domain(t *testing.T, client *virtrpc.Client, name string) *virtrpcv1.Domain {
	t.Helper()
	target := &virtrpcv1.GetDomainRequest_Domain{Domain: virtrpc.Domain(name)}
	answer, err := client.Query.GetDomain(within(t), &virtrpcv1.GetDomainRequest{Target: target})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetDomain()
}
