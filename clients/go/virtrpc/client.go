package virtrpc

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/credentials/local"
	"google.golang.org/grpc/keepalive"

	"virtrpc.dev/go/virtrpcv1"
)

// Pages and XML stay below 1 MiB by contract, capabilities of large hosts may not.
const maxMessageBytes = 16 << 20

// Reads and cancels are harmless to repeat. Verbs are not listed: repeating one is [Client.Start]'s business, under its request_id.
const serviceConfig = `{"methodConfig": [{
	"name": [
		{"service": "virtrpc.v1.QueryService"},
		{"service": "virtrpc.v1.JobService", "method": "GetJob"},
		{"service": "virtrpc.v1.JobService", "method": "ListJobs"},
		{"service": "virtrpc.v1.JobService", "method": "CancelJob"}
	],
	"retryPolicy": {
		"maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]
	}
}]}`

// A Client is a connection to a virtrpc server. It may be shared by goroutines.
//
// Its stubs give [*Error] for everything that fails, and try a read again where the server asks for that (RetryInfo). They have the verbs too, bare:
// [Client.Start] follows their jobs.
type Client struct {
	Query     virtrpcv1.QueryServiceClient
	Jobs      virtrpcv1.JobServiceClient
	Snapshots virtrpcv1.SnapshotServiceClient

	conn    *grpc.ClientConn
	options options
}

// NewClient makes a client for an address as [ResolveAddress] takes it; empty means the default one. Nothing is connected before the first call. The
// error is of the address or of the options: files that cannot be read, a token without TLS.
func NewClient(address string, change ...Option) (*Client, error) {
	client := &Client{options: options{timeout: defaultTimeout, heartbeat: defaultHeartbeat}}
	for _, option := range change {
		option(&client.options)
	}
	address, err := ResolveAddress(address)
	if err != nil {
		return nil, err
	}
	security, err := client.options.credentials(address)
	if err != nil {
		return nil, err
	}
	if client.conn, err = grpc.NewClient(address, client.dialOptions(security)...); err != nil {
		return nil, err
	}
	client.Query = virtrpcv1.NewQueryServiceClient(client.conn)
	client.Jobs = virtrpcv1.NewJobServiceClient(client.conn)
	client.Snapshots = virtrpcv1.NewSnapshotServiceClient(client.conn)
	return client, nil
}

// Conn is the connection, for other services on it: health, reflection.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// Close ends all calls and the connection. Jobs whose callers leave by that go on or not as their on_disconnect says.
func (c *Client) Close() error { return c.conn.Close() }

func (o *options) credentials(address string) (credentials.TransportCredentials, error) {
	if o.tls == nil && o.tlsConfig == nil && !isUnix(address) {
		o.tls = tlsFromEnvironment()
	}
	if o.token == nil {
		o.token = tokenFromEnvironment()
	}
	switch {
	case (o.tls != nil || o.tlsConfig != nil) && isUnix(address):
		return nil, fmt.Errorf("virtrpc: TLS is for HOST:PORT, and %s is a socket of this machine", address)
	case o.tlsConfig != nil:
		return credentials.NewTLS(o.tlsConfig), nil
	case o.tls != nil:
		return newFileCredentials(*o.tls)
	case isUnix(address):
		// Insecure ones would do, but for gRPC's knowing that a token is safe there.
		return local.NewCredentials(), nil
	case o.token != nil:
		return nil, errors.New("virtrpc: a token needs TLS or a Unix socket, or others could read it")
	default:
		return insecure.NewCredentials(), nil
	}
}

func (c *Client) dialOptions(security credentials.TransportCredentials) []grpc.DialOption {
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(security),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)),
		// Only while a call is open: an idle client costs the server nothing.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// A server that is back is found within two seconds, not within gRPC's usual two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 1500 * time.Millisecond},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithChainUnaryInterceptor(c.unary),
		grpc.WithChainStreamInterceptor(c.stream),
	}
	if c.options.token != nil {
		dial = append(dial, grpc.WithPerRPCCredentials(c.options.token))
	}
	return append(dial, c.options.dial...)
}

func (c *Client) broken(err error) {
	if c.options.onBroken != nil {
		c.options.onBroken(err)
	}
}
