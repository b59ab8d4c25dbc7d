// Package bus runs the NATS server inside the process and hands out connections to it. Start with
// [Start]; a [Bus] then carries the state bucket, the change stream, node commands and logs.
//
// A Bus is safe for concurrent use. It never ends the process: what nats-server calls fatal, and
// every JetStream I/O error, is reported by [Bus.Healthy] instead. Every client is authenticated
// in process and gets the least permissions of its role; nothing is open to anonymous clients.
package bus
