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

const publicCA = "public"

// TLSFiles are PEM files. They are read anew for every connection: whoever renews a certificate replaces its files.
//
// Without [WithTLS] the environment says the same, as to the other clients: VIRTRPC_CA, VIRTRPC_CERTIFICATE, VIRTRPC_KEY, VIRTRPC_SERVER_NAME. One of
// them is enough for TLS.
type TLSFiles struct {
	// CA has the certificates of those that may vouch for the server. Empty, or "public": the system's.
	CA string
	// Certificate is your own, with what vouches for it, and Key its key. Both or none.
	Certificate, Key string
	// ServerName is the name that the server's certificate must have. Empty: that of the address.
	ServerName string
}

func tlsFromEnvironment() *TLSFiles {
	files := TLSFiles{os.Getenv("VIRTRPC_CA"), os.Getenv("VIRTRPC_CERTIFICATE"), os.Getenv("VIRTRPC_KEY"), os.Getenv("VIRTRPC_SERVER_NAME")}
	if files == (TLSFiles{}) {
		return nil
	}
	return &files
}

func (f TLSFiles) config() (*tls.Config, error) {
	config := &tls.Config{ServerName: f.ServerName, MinVersion: tls.VersionTLS12}
	if f.CA != "" && f.CA != publicCA {
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
