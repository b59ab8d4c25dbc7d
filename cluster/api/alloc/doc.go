// Package alloc hands out what must be unique among Services: cluster IPs and node ports. Start
// with [New], which takes what the Services of the replica hold already.
//
// An [Allocator] is exact within one process: two Services never get the same value, also when they
// are created at the same time. What it hands out is not stored anywhere but in the Services, so
// after a restart only what was written counts. It is safe for concurrent use and never blocks.
package alloc
