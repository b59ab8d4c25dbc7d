// Package certificates serves CertificateSigningRequests: it approves those by which nodes join and
// renew, signs what is approved for Kubernetes' own signers, and removes requests that are old.
// Start with [Spec]; [Decide] is the whole of its judgement. It keeps nothing.
//
// Requests to other signers are left to those, approved or not.
package certificates
