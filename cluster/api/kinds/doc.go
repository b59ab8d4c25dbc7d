// Package kinds lists the API kinds that are built in. Start with [All]; a new kind is one file in
// the package of its group and one line there.
package kinds
