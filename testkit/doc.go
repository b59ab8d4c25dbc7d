// Package testkit runs whole clusters inside a test: the control plane with its controllers and
// scheduler, and nodes whose containers are simulated. Start with [Start]:
//
//	func TestMyOperator(t *testing.T) {
//		c := testkit.Start(t, testkit.Nodes(3))
//		c.Apply(manifest)
//		c.WaitFor("Deployment default/web", testkit.Available)
//	}
//
// A cluster is ready in about 50 ms and runs its first pod after as much again. Nothing is
// downloaded, nothing is written outside the test's own folders, and everything has ended when the
// test has, so that many clusters may run one after another or side by side.
//
// Objects are named as for kubectl: "Pod default/web-0", "Deployment web" (in the namespace default),
// "Node node-0", "Widget.example.com shop/w". [Cluster.WaitFor] watches instead of polling and shows
// the object and its Events when it gives up. [Cluster.Client] is client-go's clientset,
// [Cluster.Config] what any other client is made of, [Cluster.Kubeconfig] and [Cluster.Kubectl] are
// for other programs. Containers do what annotations of their pod say, see package
// node/runtime/sim; commands echo, logs have a line, ports answer HTTP.
//
// # Faults
//
// [Cluster.StopNode] silences a node, [Cluster.PowerOff] ends its containers, too,
// [Cluster.StartNode] brings it back, [Cluster.Restart] restarts the control plane. A node's runtime
// fails by c.Node("node-0").Runtime().Down(err); a container ends by its Exit method.
//
// # Virtual time
//
// [Virtual] runs the cluster in a testing/synctest bubble: time passes only when every goroutine
// waits, so that ten minutes of back-off take milliseconds, and [Cluster.Advance] returns when all
// that was due has happened. All of the cluster lives in there: the embedded NATS server, the state,
// the API server behind an in-memory listener, controllers and nodes. An idle day costs ten seconds
// or so, because nodes go on to send a heartbeat a second.
//
// What must not be in a bubble, because time stands still while it waits for something outside:
//
//   - network and processes: the API is reached by Config only, plain HTTP on in-memory connections;
//     there is no Kubeconfig and no Kubectl;
//   - goroutines, channels, timers or connections that were born elsewhere, such as a client made
//     outside, http.DefaultClient's connections, or a package's own background goroutine. The clock
//     that nats-server keeps per process is one of these; Virtual holds it from outside;
//   - mutexes held for long: waiting for one does not count as waiting.
//
// A cluster and its clients have to be made inside of the bubble and end in it, and t.Parallel cannot
// be called there; the test around it may be parallel.
package testkit
