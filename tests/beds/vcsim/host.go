package main

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// autostart is the part of a host that starts machines with it, which the simulator lacks.
type autostart struct {
	mo.HostAutoStartManager
}

// completeHost gives the host what the simulator leaves out and libvirt asks for.
func completeHost() {
	host := simulator.Map.Any("HostSystem").(*simulator.HostSystem)
	host.Capability = &types.HostCapability{MaxSupportedVcpus: 128, ScreenshotSupported: true}
	manager := &autostart{}
	manager.Self = types.ManagedObjectReference{Type: "HostAutoStartManager", Value: "ha-autostart-mgr"}
	manager.Config.Defaults = &types.AutoStartDefaults{Enabled: types.NewBool(true)}
	simulator.Map.Put(manager)
	host.ConfigManager.AutoStartManager = &manager.Self
}

// ReconfigureAutostart takes the machines of the request over, and forgets those that are not started any more.
func (m *autostart) ReconfigureAutostart(context *simulator.Context, request *types.ReconfigureAutostart) soap.HasFault {
	if request.Spec.Defaults != nil {
		m.Config.Defaults = request.Spec.Defaults
	}
	for _, wanted := range request.Spec.PowerInfo {
		m.Config.PowerInfo = append(without(m.Config.PowerInfo, wanted.Key), wanted)
	}
	return &methods.ReconfigureAutostartBody{Res: &types.ReconfigureAutostartResponse{}}
}

func without(all []types.AutoStartPowerInfo, machine types.ManagedObjectReference) []types.AutoStartPowerInfo {
	var rest []types.AutoStartPowerInfo
	for _, info := range all {
		if info.Key != machine {
			rest = append(rest, info)
		}
	}
	return rest
}
