// Package nodepb is the conversation between the control plane and its nodes, generated from
// node.proto. Start with [Down], everything a node is told, and with the messages it reports:
// [Hello], [Heartbeat], [PodReports] and so on, one per subject token.
//
// API objects travel inside as their Kubernetes JSON. Messages are plain values: safe to read
// concurrently, never changed once sent.
package nodepb
