package check

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxDriverName is the longest name of a volume driver.
const maxDriverName = 63

// DriverName checks the name of a volume driver: a DNS subdomain, in upper or lower case.
func DriverName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(name) > maxDriverName {
		errs = append(errs, field.TooLong(path, "", maxDriverName))
	}
	return append(errs, Invalid(name, validation.IsDNS1123Subdomain(strings.ToLower(name)), path)...)
}
