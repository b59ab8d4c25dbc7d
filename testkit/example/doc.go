// Package example is a small web application as a user would write it: a static Go program in web,
// manifests, and [Image] to build its container image where there is no registry. Demonstrations
// and tests of real containers run it. It holds no state.
package example
