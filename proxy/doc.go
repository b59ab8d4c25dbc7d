// Package proxy makes the services of the cluster work on one node: rules in the kernel, DNS
// answers from memory, both fed by what the control plane broadcasts. Start with [Start].
//
//	control plane: actors/proxyfeed --deltas, snapshots--> proxy/feed --Update--> proxy/rules --> kernel
//	                      ^                                        \-----------> proxy/dns   --> pods
//	                      +------------- applied up to revision ---------------------/
//
// A Proxy that is closed leaves its rules in place, so that services work while troupe restarts;
// the next one adopts them. [Remove] deletes every trace. A Proxy is safe for concurrent use.
package proxy
