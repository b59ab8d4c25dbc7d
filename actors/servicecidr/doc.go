// Package servicecidr looks after ServiceCIDRs, the ranges that Services get addresses from: it marks
// them ready, and holds one that is being deleted until no address of it is in use that no other
// range covers. Start with [Spec]. It never touches the addresses themselves.
package servicecidr
