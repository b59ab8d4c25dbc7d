// Package controller runs controllers as actors: a keeper per controller and an actor per object,
// which is gone while there is nothing to do for its object. Start with [Spec]; [Props] makes the
// keeper.
//
// Level-triggered: a change only says that an object may differ. However many changes arrive while
// a reconcile runs, one more follows. Reconcile runs off the actor and may block on writes; two
// reconciles of one key never overlap. An error is retried after a back-off, a panic restarts that
// object's actor alone, and a restarted keeper looks at every object anew.
package controller
