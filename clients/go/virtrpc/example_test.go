package virtrpc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	"virtrpc.dev/go/virtrpc"
	"virtrpc.dev/go/virtrpcv1"
)

func Example() {
	ctx := context.Background()
	client, err := virtrpc.NewClient("virt.example:50051", virtrpc.WithTLS(virtrpc.TLSFiles{CA: "ca.pem", Certificate: "me.pem", Key: "me.key"}))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	job, err := client.Start(ctx, &virtrpcv1.ManagedSaveDomainRequest{
		Domain:  virtrpc.Domain("guest-1"),
		Options: &virtrpcv1.JobOptions{WaitTimeout: durationpb.New(0)},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer job.Close()
	for update, err := range job.Updates(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%.0f %%\n", update.GetProgress().GetPercent())
	}
	var failed *virtrpc.Error
	if _, err := job.Wait(ctx); errors.Is(err, virtrpc.ErrBusy) && errors.As(err, &failed) {
		fmt.Println("in the way:", failed.Metadata["holder_job_id"])
	}
}

// TestExample lists, saves, leaves a save, and follows that until it is interrupted, which cancels it.
func TestExample(t *testing.T) {
	program := t.TempDir() + "/save"
	if said, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, "../examples/save").CombinedOutput(); err != nil {
		t.Fatal(string(said))
	}
	says := func(words ...string) string {
		said, err := exec.CommandContext(within(t), program, append([]string{"-address", shared.address()}, words...)...).CombinedOutput()
		if err != nil {
			t.Fatal(err, string(said))
		}
		return string(said)
	}
	if said := says(); !strings.Contains(said, "quick/guest-5 booted\n") {
		t.Error(said)
	}
	if said := says("quick/guest-5"); !regexp.MustCompile(`RUNNING \d+ %[\s\S]*SUCCEEDED 100 %\nsaved\n$`).MatchString(said) {
		t.Error(said)
	}
	job := strings.TrimSpace(says("-detach", "slow/guest-2"))
	if said := interrupted(t, program, "-address", shared.address(), "-attach", job); !strings.Contains(said, "CANCELLED") {
		t.Error(said)
	}
}

// interrupted is what a program says that is interrupted as soon as it tells of progress.
func interrupted(t *testing.T, program string, words ...string) (said string) {
	command := exec.CommandContext(within(t), program, words...)
	output, err := command.StdoutPipe()
	must(err)
	must(command.Start())
	for lines := bufio.NewScanner(output); lines.Scan(); said += lines.Text() + "\n" {
		if strings.Contains(lines.Text(), "RUNNING") && !strings.Contains(said, "RUNNING") {
			must(command.Process.Signal(os.Interrupt))
		}
	}
	_ = command.Wait()
	return said
}
