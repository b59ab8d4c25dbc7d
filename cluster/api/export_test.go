package api

// WithWarnings has an answer carry the warnings of its request.
var WithWarnings = withWarnings
