package virtrpc

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// DefaultAddress is where the system's server listens.
const DefaultAddress = "unix:///run/virtrpc/virtrpc.sock"

// AddressVariable is the environment variable that names the server where the caller does not.
const AddressVariable = "VIRTRPC_ADDRESS"

var scheme = regexp.MustCompile(`^(unix|unix-abstract|dns|passthrough|vsock|xds):`)

// ResolveAddress gives the address to call: address itself, else $VIRTRPC_ADDRESS, else the socket of the user's own server where there is one, else
// [DefaultAddress]. A path that starts with / stands for its Unix socket; everything else is handed to gRPC: unix:///path, host:port,
// dns:///host:port. What none of these is gives an error.
func ResolveAddress(address string) (string, error) {
	address = cmp.Or(address, os.Getenv(AddressVariable), usersSocket(), DefaultAddress)
	if strings.HasPrefix(address, "/") {
		return "unix://" + address, nil
	}
	return address, checkAddress(address)
}

// gRPC takes these for a name to look up, and says so in words of its own.
func checkAddress(address string) error {
	if rest, found := strings.CutPrefix(address, "unix://"); found && !strings.HasPrefix(rest, "/") {
		return fmt.Errorf("virtrpc: %q lacks a slash: unix:///%s", address, rest)
	}
	if strings.HasPrefix(address, "http://") || strings.HasPrefix(address, "https://") {
		return fmt.Errorf("virtrpc: %q is a web address: write HOST:PORT", address)
	}
	if !scheme.MatchString(address) && !isHostAndPort(address) {
		return fmt.Errorf("virtrpc: %q is no address: write unix:///PATH or HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051", address)
	}
	return nil
}

func isHostAndPort(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || strings.ContainsAny(host, "/ ") {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// usersSocket is where a server that this user started listens, if it does; root's is the system's.
func usersSocket() string {
	if os.Geteuid() == 0 {
		return ""
	}
	directory := os.Getenv("XDG_RUNTIME_DIR")
	if directory == "" {
		directory = fmt.Sprintf("/run/user/%d", os.Getuid())
	}
	socket := filepath.Join(directory, "virtrpc/virtrpc.sock")
	if _, err := os.Stat(socket); err != nil {
		return ""
	}
	return "unix://" + socket
}

func isUnix(address string) bool {
	return strings.HasPrefix(address, "unix:") || strings.HasPrefix(address, "unix-abstract:")
}
