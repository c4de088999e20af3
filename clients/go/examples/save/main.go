// Save lists domains, saves one with its progress, cancels that on Ctrl-C, and follows a job that was begun before.
//
//	go run ./examples/save                  list the domains
//	go run ./examples/save guest-1          save one; Ctrl-C cancels the save and waits for its end
//	go run ./examples/save -detach guest-1  begin to save it, print the job's id and leave
//	go run ./examples/save -attach JOB      follow such a job
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"virtrpc.dev/go/virtrpc"
	"virtrpc.dev/go/virtrpcv1"
)

func main() {
	address := flag.String("address", "", "the server: unix:///PATH or HOST:PORT; else $VIRTRPC_ADDRESS, else the default socket")
	attach := flag.String("attach", "", "follow the job with this id")
	detach := flag.Bool("detach", false, "leave as soon as the save has begun")
	flag.Parse()
	if err := run(*address, *attach, flag.Arg(0), *detach); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, attach, name string, detach bool) error {
	ctx := context.Background()
	client, err := virtrpc.NewClient(address, virtrpc.WithOnBroken(func(err error) { fmt.Fprintln(os.Stderr, "trying again:", err) }))
	if err != nil {
		return err
	}
	defer client.Close()
	switch {
	case attach != "":
		return follow(ctx, client.Attach(attach))
	case name == "":
		return list(ctx, client)
	default:
		return save(ctx, client, name, detach)
	}
}

func list(ctx context.Context, client *virtrpc.Client) error {
	for domain, err := range virtrpc.All(ctx, client.Query.ListDomains, &virtrpcv1.ListDomainsRequest{}, (*virtrpcv1.ListDomainsResponse).GetDomains) {
		if err != nil {
			return err
		}
		fmt.Println(domain.GetHost()+"/"+domain.GetName(), domain.GetStateReason())
	}
	return nil
}

func save(ctx context.Context, client *virtrpc.Client, name string, detach bool) error {
	request := &virtrpcv1.ManagedSaveDomainRequest{Domain: virtrpc.Domain(name), Options: &virtrpcv1.JobOptions{}}
	if detach {
		request.Options.OnDisconnect = virtrpcv1.OnDisconnect_ON_DISCONNECT_DETACH
	}
	job, err := client.Start(ctx, request)
	if err != nil {
		return err
	}
	defer job.Close()
	if detach {
		fmt.Println(job.ID())
		return nil
	}
	return follow(ctx, job)
}

// follow shows a job until it ends. The first Ctrl-C asks it to stop, and what becomes of that is waited for; the second leaves.
func follow(ctx context.Context, job *virtrpc.Job) error {
	interrupted, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	defer context.AfterFunc(interrupted, func() {
		stop()
		answer, err := job.Cancel(ctx)
		fmt.Println("cancel:", answer.GetMessage(), err)
	})()
	for latest, err := range job.Updates(ctx) {
		if err != nil {
			return err
		}
		fmt.Printf("%v %.0f %%\n", latest.GetState(), latest.GetProgress().GetPercent())
	}
	done, err := job.Wait(ctx)
	var failed *virtrpc.Error
	switch {
	case errors.Is(err, virtrpc.ErrBusy) && errors.As(err, &failed):
		return fmt.Errorf("in the way is the job %s: %w", failed.Metadata["holder_job_id"], err)
	case errors.Is(err, virtrpc.ErrAborted):
		return fmt.Errorf("stopped: %w", err)
	case err != nil:
		return err
	}
	fmt.Println(done.GetDomainResult().GetDomain().GetStateReason())
	return nil
}
