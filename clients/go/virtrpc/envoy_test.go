package virtrpc_test

import (
	"bufio"
	"encoding/json"
	"testing"
)

// TestMainJobThroughEnvoy does the same through a real Envoy with the shipped configuration.
func TestMainJobThroughEnvoy(t *testing.T) {
	if testing.Short() {
		t.Skip("the first run fetches Envoy")
	}
	mainJob(t, envoy(t), "guest-1")
}

// envoy is the address of an Envoy that the checkout starts, with a server of its own behind it.
func envoy(t *testing.T) string {
	t.Helper()
	log := newServer()
	command := log.command("python", "-m", "tests.mesh.stage", "--host", quick, "--host", slow)
	command.Stdout = nil
	input, err := command.StdinPipe() // it ends when this closes
	must(err)
	output, err := command.StdoutPipe()
	must(err)
	must(command.Start())
	t.Cleanup(func() {
		must(input.Close())
		if err := command.Wait(); err != nil {
			t.Error(err, log.log())
		}
		log.removeFiles()
	})
	line, err := bufio.NewReader(output).ReadBytes('\n')
	if err != nil {
		t.Fatal(err, log.log())
	}
	var stage struct{ Envoy string }
	must(json.Unmarshal(line, &stage))
	return stage.Envoy
}
