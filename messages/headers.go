package messages

// Headers of a record in a state bucket and of the change it causes; both carry the object as
// Kubernetes JSON, a deletion the last object.
const (
	// HeaderFormat is the number of the layout of a record or change, see [Format]. Absent, it is 1.
	HeaderFormat = "Troupe-Format"
	// HeaderVerb is one of the Verb constants.
	HeaderVerb = "Troupe-Verb"
	// HeaderKind is the object's "<apiVersion>/<kind>", such as "apps/v1/Deployment".
	HeaderKind = "Troupe-Kind"
	// HeaderUID is the object's metadata.uid.
	HeaderUID = "Troupe-Uid"
	// HeaderWriter names the writing process and numbers its writes: "<process>.<number>".
	HeaderWriter = "Troupe-Writer"
	// HeaderUser is the user of the API on whose behalf the write was done; writes that nobody asked
	// for, such as the end of a lifetime, have none.
	HeaderUser = "Troupe-User"
	// HeaderExpires is the Unix time in seconds when the store deletes the object by itself.
	HeaderExpires = "Troupe-Expires"
	// HeaderRevision is the revision a change has in its bucket, the object's resourceVersion.
	// Records have none: there the stream's sequence says it.
	HeaderRevision = "Troupe-Revision"
	// HeaderSealed names the key a record or change is sealed with; its body is then the JSON string
	// of what only the control plane can open. Absent, the body is the object.
	HeaderSealed = "Troupe-Sealed"
	// HeaderBucket is the bucket a change comes from; revisions count within one bucket.
	HeaderBucket = "Troupe-Bucket"
)

// Format is the newest layout of records and changes that this program reads, and the one it writes.
// It grows when an older program could not read what a newer one writes; older layouts stay readable.
const Format = 1

// Values of HeaderVerb.
const (
	VerbCreate = "create"
	VerbUpdate = "update"
	VerbDelete = "delete"
)
