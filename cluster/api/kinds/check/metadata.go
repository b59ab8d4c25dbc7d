package check

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// AnyName is for kinds whose own rules check the name.
func AnyName(string, bool) []string { return nil }

// BesidesMetadata is for kinds whose rules are a library's and check the metadata once more: it
// leaves out what the framework has found already.
func BesidesMetadata(errs field.ErrorList) field.ErrorList {
	var out field.ErrorList
	for _, err := range errs {
		if !strings.HasPrefix(err.Field, "metadata.") || err.Field == "metadata.name" {
			out = append(out, err)
		}
	}
	return out
}

// LongName checks a name as the kinds do whose rules are declared in Kubernetes: in words of their own.
func LongName(name string, prefix bool) []string {
	if prefix {
		name = strings.TrimSuffix(name, "-") + "x" // what is made of it goes on
	}
	return content.IsDNS1123Subdomain(name)
}
