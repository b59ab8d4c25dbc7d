// Package stagetest helps to test actors: [New] gives a system that ends with the test, and
// [Probe] an actor that records what it is sent. In a testing/synctest bubble nothing here needs a
// real time-out: [Expect] waits until every goroutine of the bubble is idle and then looks.
package stagetest
