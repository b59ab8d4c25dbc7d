// Package testkit runs whole clusters inside a test: the control plane with its controllers and
// scheduler, and nodes whose containers are simulated. Start with [Start]:
//
//	func TestMyOperator(t *testing.T) {
//		c := testkit.Start(t, testkit.Nodes(3))
//		c.Apply(manifest)
//		c.WaitFor("Deployment default/web", testkit.Available)
//	}
//
// [Cluster.Config] is a rest.Config for client-go and controller-runtime, [Cluster.Kubeconfig] a
// file for kubectl. Nothing is downloaded, nothing is written outside the test's own folders, and
// everything has ended when the test has.
//
// [Virtual] runs the cluster in a testing/synctest bubble: time passes only when every goroutine
// waits, so that ten minutes of back-off take milliseconds. Clients in there must use
// Cluster.Config, whose connections stay in memory.
package testkit
