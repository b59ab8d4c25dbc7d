// Package service finds where the Services of the cluster are to be reached from within this
// process, which has neither their rules nor their DNS: webhooks and aggregated APIs are dialed at
// an endpoint that is ready. It reads the replica and keeps nothing. Start with [NewResolver].
package service
