// Package netlab builds small networks of namespaces for tests that need the real kernel. Start
// with [Main] in TestMain: it runs the tests in a network namespace of their own, which vanishes
// with the process, so that no test can harm the machine. Only tests import this package.
package netlab
