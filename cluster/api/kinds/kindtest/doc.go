// Package kindtest helps to test kinds: [Create] and [Update] play the API server's part of a
// write, [Errors] makes lists of field errors comparable. For tests only.
package kindtest
