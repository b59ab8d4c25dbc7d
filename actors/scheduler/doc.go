// Package scheduler places pods on nodes. One scheduler actor ([Props]) follows pods and nodes,
// keeps what every node has promised, and places waiting pods in batches; placing itself is the
// pure function [place] over that picture.
//
// A pass filters the nodes (plugin names and reasons as kube-scheduler words them), scores those
// that fit and takes one of the best at random. Pods that fit nowhere wait until something that
// could help them changes, and say why in an Event and in their PodScheduled condition.
package scheduler
