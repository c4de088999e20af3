package virtrpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc/credentials"
)

// TLSFiles are PEM files. They are read anew for every connection: whoever renews a certificate replaces its files.
type TLSFiles struct {
	// CA has the certificates of those that may vouch for the server. Empty: the system's.
	CA string
	// Certificate is your own, with what vouches for it, and Key its key. Both or none.
	Certificate, Key string
	// ServerName is the name that the server's certificate must have. Empty: that of the address.
	ServerName string
}

func (f TLSFiles) config() (*tls.Config, error) {
	config := &tls.Config{ServerName: f.ServerName, MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		text, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("virtrpc: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("virtrpc: %s has no certificate", f.CA)
		}
	}
	if f.Certificate != "" || f.Key != "" {
		pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
		if err != nil {
			return nil, fmt.Errorf("virtrpc: the client's certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// fileCredentials is gRPC's TLS with files that are read for each handshake.
type fileCredentials struct {
	credentials.TransportCredentials
	files TLSFiles
}

func newFileCredentials(files TLSFiles) (*fileCredentials, error) {
	config, err := files.config()
	if err != nil {
		return nil, err
	}
	return &fileCredentials{TransportCredentials: credentials.NewTLS(config), files: files}, nil
}

func (c *fileCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, err := c.files.config()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

func (c *fileCredentials) Clone() credentials.TransportCredentials {
	return &fileCredentials{TransportCredentials: c.TransportCredentials.Clone(), files: c.files}
}
