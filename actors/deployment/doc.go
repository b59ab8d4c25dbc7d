// Package deployment rolls Deployments out: it makes a ReplicaSet for each version of the pod
// template and moves replicas from the old ones to the new one, as fast as maxSurge and
// maxUnavailable allow, or all at once after the old pods are gone (Recreate). Start with [Spec];
// the decisions are pure and begin in decide.go.
//
// One pass looks at a Deployment and its ReplicaSets, makes one step and reports it in the status;
// the change it made brings the next pass. Revisions, histories, conditions and messages are those
// of Kubernetes, on which kubectl rollout relies. It never touches pods.
package deployment
