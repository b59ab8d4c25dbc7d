// Package member decides which of several control planes leads. Start with [Run].
//
// The members share a lease, one record in a stream in memory. Its holder renews it; who has seen the
// same record for the time it is good for, by his own clock, may take it. So no two clocks need to
// agree, and a holder whose last renewal was sent less than that time ago knows that nobody else has
// taken it. That is all the lease is for: to elect, and to answer reads without asking. Two that
// believe to lead do no harm, because the state is fenced by its own epoch record.
package member
