// Package host prepares the machine a node agent runs pods on: it runs containerd as a child with
// its own root, state and socket, makes the sandbox image locally, and answers early, in one line,
// when the machine lacks something. Start with [Start].
//
// containerd lives in its own session and outlives troupe, and so do the pods: the next Start on
// the same data folder adopts the running process. [Host.Run] restarts a containerd that died.
// [Down] ends all of it and leaves no process, mount or socket behind.
//
//	h, err := host.Start(ctx, host.Config{DataDir: dir, Log: log})
//	go h.Run(ctx)             // watches containerd, restarts it with back-off
//	h.Socket()                // CRI and containerd endpoint, a path
//	h.Client()                // containerd client, namespace k8s.io
//	h.Healthy()               // nil, or why pods cannot run now
//	h.Close()                 // leaves containerd and pods running
//
// A Host is safe for concurrent use. The package never touches a containerd it did not start,
// except to import the sandbox image it asks for.
package host
