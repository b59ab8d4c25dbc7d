// Package controllertest runs controllers on objects in memory, for their tests. Start with [Run],
// which gives a test a [World] inside a synctest bubble: time passes only when the test sleeps,
// and then at once.
package controllertest
