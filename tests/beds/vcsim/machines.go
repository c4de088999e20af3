package main

import (
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// What a real host does with a machine's definition, and the simulator does not: it reads it, and keeps it true.

func machines() []*simulator.VirtualMachine {
	var all []*simulator.VirtualMachine
	for _, entity := range simulator.Map.All("VirtualMachine") {
		all = append(all, entity.(*simulator.VirtualMachine))
	}
	return all
}

func machineAt(definition string) *simulator.VirtualMachine {
	for _, machine := range machines() {
		if machine.Config.Files.VmPathName == definition {
			return machine
		}
	}
	return nil
}

// addFiles makes what the simulator wants to find beside a definition that is to be registered.
func addFiles(definition string) {
	local := localFile(definition)
	name := strings.TrimSuffix(path.Base(local), ".vmx")
	for _, file := range []string{name + ".nvram", "vmware.log"} {
		if opened, err := os.OpenFile(path.Join(path.Dir(local), file), os.O_CREATE|os.O_RDWR, 0o600); err == nil {
			_ = opened.Close()
		}
	}
}

// adopt makes a machine that was registered by this task what its definition says.
func adopt(definition, task string) {
	running, ok := simulator.Map.Get(types.ManagedObjectReference{Type: "Task", Value: task}).(*simulator.Task)
	if !ok {
		return
	}
	running.Wait()
	machine := machineAt(definition)
	stored, err := os.ReadFile(localFile(definition))
	if machine == nil || err != nil {
		return
	}
	text := string(stored)
	memory, _ := strconv.ParseInt(value(text, "memsize"), 10, 64)
	cpus, _ := strconv.ParseInt(value(text, "numvcpus"), 10, 32)
	reconfigure(machine, types.VirtualMachineConfigSpec{
		Name: value(text, "displayName"), Uuid: uuidOf(value(text, "uuid.bios")), MemoryMB: memory, NumCPUs: int32(cpus),
	})
	runTools(machine)
}

func reconfigure(machine *simulator.VirtualMachine, spec types.VirtualMachineConfigSpec) {
	answer := machine.ReconfigVMTask(simulator.SpoofContext(), &types.ReconfigVM_Task{This: machine.Self, Spec: spec})
	task := answer.(*methods.ReconfigVM_TaskBody).Res.Returnval
	simulator.Map.Get(task).(*simulator.Task).Wait()
}

// runTools says that the guest has VMware's tools: they tell its name and addresses, and without them it cannot be asked to reboot.
func runTools(machine *simulator.VirtualMachine) {
	address := types.GuestNicInfo{MacAddress: "00:0c:29:00:00:01", Network: "VM Network", Connected: true, IpConfig: &types.NetIpConfigInfo{
		IpAddress: []types.NetIpConfigInfoIpAddress{{IpAddress: "192.0.2.7", PrefixLength: 24, State: "preferred"}},
	}}
	context := simulator.SpoofContext()
	context.WithLock(machine, func() {
		simulator.Map.Update(machine, []types.PropertyChange{
			{Name: "guest.toolsRunningStatus", Val: string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)},
			{Name: "guest.hostName", Val: machine.Name + ".example"},
			{Name: "guest.net", Val: []types.GuestNicInfo{address}},
		})
	})
}

// passOn makes a child current in place of a snapshot that is going to be removed and has no parent: the simulator panics otherwise.
func passOn(snapshot string) {
	for _, machine := range machines() {
		if machine.Snapshot == nil || machine.Snapshot.CurrentSnapshot == nil || machine.Snapshot.CurrentSnapshot.Value != snapshot {
			continue
		}
		for _, root := range machine.Snapshot.RootSnapshotList {
			if root.Snapshot.Value == snapshot && len(root.ChildSnapshotList) > 0 {
				machine.Snapshot.CurrentSnapshot = &root.ChildSnapshotList[0].Snapshot
			}
		}
	}
}

// localFile is where the simulator keeps a datastore's file.
func localFile(name string) string {
	var parsed object.DatastorePath
	parsed.FromString(name)
	for _, entity := range simulator.Map.All("Datastore") {
		store := entity.(*simulator.Datastore)
		if store.Name == parsed.Datastore {
			return path.Join(store.Info.GetDatastoreInfo().Url, path.Clean("/"+parsed.Path))
		}
	}
	return ""
}
