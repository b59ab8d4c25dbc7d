// Package volume gives a pod its files: it prepares the volumes of a pod under
// <dir>/<uid>/volumes, says what to mount into each container, keeps projected content fresh and
// takes everything down again. Start with [Manager].
//
//	m, err := volume.NewManager(volume.Config{Dir: "<data>/pods", Objects: o, Tokens: t, Log: log})
//	err = m.Setup(ctx, pod)                    // idempotent; errors.As *volume.Error: waiting reason
//	mounts, err := m.Mounts(pod, &c, lookup)   // []*runtimeapi.Mount of one container
//	m.Refresh(ctx, pod)                        // new content of configMap, secret, projected, downwardAPI
//	m.Hosts(pod, ips, hostname, domain)        // mount of the pod's /etc/hosts
//	m.TerminationFile(uid, &c, attempt)        // mount for the termination message
//	m.Termination(uid, container, attempt)     // what the container wrote there
//	m.Teardown(uid)                            // unmounts and removes all of a pod
//	m.Sweep(livingUIDs)                        // Teardown of every pod that is not alive
//
// Content is written by the atomic-writer layout Kubernetes users know: files are links into
// ..data, itself a link to a timestamped folder, swapped by one rename. A Manager is safe for
// concurrent use for different pods; calls for one pod must not overlap (the pod actor sees to that).
// The package never follows a link a container could have placed: see subpath.go.
package volume
