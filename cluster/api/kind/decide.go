package kind

import (
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Deciders are what reviews ask: who somebody is and what they may do.
type Deciders interface {
	// Authenticator tells whom a token belongs to.
	Authenticator() authenticator.Request
	// Authorizer tells whether an act is allowed.
	Authorizer() authorizer.Authorizer
	// RuleResolver lists what somebody may do.
	RuleResolver() authorizer.RuleResolver
}

// Components are the parts of the control plane, as ComponentStatus shows them.
type Components interface {
	// Components are checks by name; one that returns nil finds its part in order.
	Components() map[string]func() error
}
