package virtrpc

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
)

const (
	defaultTimeout = 10 * time.Second
	// The server's own setting is not known here.
	defaultHeartbeat = 15 * time.Second
)

// An Option changes what [NewClient] makes.
type Option func(*options)

type options struct {
	timeout   time.Duration
	heartbeat time.Duration
	onBroken  func(error)
	tls       *TLSFiles
	tlsConfig *tls.Config
	token     *bearer
	dial      []grpc.DialOption
}

// WithTimeout sets how long a read takes at most where its context has no deadline, and how long a server that is away or draining is tried: by a
// verb until it is accepted, by jobs and watches until they have heard of it once (later they try for ever). 10 s unless set.
func WithTimeout(timeout time.Duration) Option { return func(o *options) { o.timeout = timeout } }

// WithHeartbeat sets how long the stream of a job or a watch may be silent where its request does not say; three times that, and 5 s at least, is
// taken for a dead connection. 15 s unless set, at least 0.1 s; the server's own setting holds where that is shorter.
func WithHeartbeat(heartbeat time.Duration) Option {
	return func(o *options) { o.heartbeat = heartbeat }
}

// WithOnBroken has call told what broke a verb that is not accepted yet, a job's stream or a watch, each time before it is tried again; [io.EOF]
// where a stream ended too soon. It runs in the goroutine that waits for the job or the watch.
func WithOnBroken(call func(error)) Option { return func(o *options) { o.onBroken = call } }

// WithTLS encrypts the connection and, where files has a certificate, says with it who you are. Without it the environment decides ([TLSFiles]). A
// Unix socket needs none of this.
func WithTLS(files TLSFiles) Option { return func(o *options) { o.tls = &files } }

// WithTLSConfig is [WithTLS] for certificates that lie in no files, such as those of SPIFFE's workload API: go-spiffe's tlsconfig makes a config.
func WithTLSConfig(config *tls.Config) Option { return func(o *options) { o.tlsConfig = config } }

// WithToken sends a bearer token with every call, instead of that of $VIRTRPC_TOKEN or $VIRTRPC_TOKEN_FILE. It needs TLS or a Unix socket, so that
// nobody else reads it.
func WithToken(token string) Option {
	return func(o *options) { o.token = tokenText(token) }
}

// WithTokenFile sends the bearer token that stands in a file, read anew for every call: whoever rotates it replaces the file. See [WithToken].
func WithTokenFile(path string) Option { return func(o *options) { o.token = tokenFile(path) } }

// WithDialOptions hands options to gRPC, after this package's own: interceptors, stats handlers, credentials of another kind.
func WithDialOptions(more ...grpc.DialOption) Option {
	return func(o *options) { o.dial = append(o.dial, more...) }
}
