// Package virtrpc is the client of the virtrpc service: it connects, runs verbs and follows their jobs through broken connections and restarts of
// the server, watches, and gives typed errors. The messages and the bare stubs are those of package virtrpcv1.
//
// A [Client] has the generated stubs for reads, and [Client.Start] for everything that changes a domain:
//
//	client, err := virtrpc.NewClient("unix:///run/virtrpc/virtrpc.sock")
//	defer client.Close()
//	job, err := client.Start(ctx, &virtrpcv1.ManagedSaveDomainRequest{Domain: virtrpc.Domain("guest-1")})
//	defer job.Close()
//	for update, err := range job.Updates(ctx) {
//		...
//	}
//	done, err := job.Wait(ctx)
//
// # Contexts
//
// A context bounds the call that it is given to, and nothing else. That of [Client.Start] bounds the time until the server has accepted the verb;
// those of [Job.Updates] and [Job.Wait] say how long you listen. Who stops listening leaves: what becomes of the job then is up to its on_disconnect
// (a queued one is withdrawn and a running one goes on, unless it says otherwise).
//
// # Errors
//
// Every error that a server, a job or the connection gives is an [*Error] with its status code, reason and metadata. [errors.Is] tells its kind, such
// as [ErrBusy] or, wider, [ErrAborted]. It is a gRPC status as well, so that [google.golang.org/grpc/status.Code] works on it.
//
// # Tracing
//
// Interceptors and stats handlers go in by [WithDialOptions]; each sees every attempt, and what a context carries (a W3C trace context, outgoing
// metadata) goes along with each call that it was given to, streams that are opened anew among them.
package virtrpc
