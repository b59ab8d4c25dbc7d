// Package table helps kinds to fill the tables kubectl shows: column definitions and the short
// forms of times, labels and lists in their cells. Start with [Name], [Col] and [Age]. All
// functions are pure but for the clock that ages are measured against.
package table
