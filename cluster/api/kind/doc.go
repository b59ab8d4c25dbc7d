// Package kind describes an API kind as data: [Kind] is what one file in cluster/api/kinds/<group>
// fills in, and what cluster/api turns into a served resource with storage, defaults, validation,
// subresources and tables. It holds types and small helpers only; nothing here does I/O.
package kind
