package check

import (
	"strings"

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
