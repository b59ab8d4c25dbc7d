package check

import (
	"errors"
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

var errUnknownType = errors.New("unknown type")

// NonSpecialIP refuses addresses that mean something only to the machine they are used on.
func NonSpecialIP(v string, path *field.Path) field.ErrorList {
	ip, err := netip.ParseAddr(v)
	if err != nil {
		return field.ErrorList{field.Invalid(path, v, "must be a valid IP address")}
	}
	ip = ip.Unmap()
	var errs field.ErrorList
	if ip.IsUnspecified() {
		errs = append(errs, field.Invalid(path, v, fmt.Sprintf("may not be unspecified (%v)", v)))
	}
	if ip.IsLoopback() {
		errs = append(errs, field.Invalid(path, v, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
	}
	if ip.IsLinkLocalUnicast() {
		errs = append(errs, field.Invalid(path, v, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
	}
	if ip.IsLinkLocalMulticast() {
		errs = append(errs, field.Invalid(path, v, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"))
	}
	return errs
}
