// Package node is a node of the cluster: it registers with the control plane over the bus, runs the
// pods it is told to run and shows how it fares. Start a real one with [Start]; [StartSim] runs any
// number of simulated ones in this process.
//
//	host      containerd, started or adopted            (node/host)
//	link      the conversation with the control plane   (node/link)
//	network   bridge, addresses, host ports             (node/network)
//	pods      sandboxes, containers, probes             (node/pod)
//	server    logs, exec, attach, port-forward          (node/server)
//	agent     this package: brings them up in order and watches the machine
//
// An [Agent] may be closed at any time, and killed: pods go on, and the next Start on the same data
// folder adopts them. The package never imports the control plane.
package node
