// Package rbac describes the kinds of rbac.authorization.k8s.io/v1: Role, RoleBinding, ClusterRole
// and ClusterRoleBinding. Start with [Role]. What they allow is decided in cluster/auth; that nobody
// grants more than they hold is checked in cluster/api/admission. The package only returns data and
// functions without state.
package rbac
