package example

import (
	_ "embed"

	"github.com/troupe-run/troupe/testkit/image"
)

// ImageName is the name under which the manifests ask for the image.
const ImageName = "example/web:v1"

// Web is the application: namespace, settings, Deployment and Service, in YAML.
//
//go:embed manifests/web.yaml
var Web []byte

// Client is a pod that asks the application by its DNS name and ends, in YAML.
//
//go:embed manifests/client.yaml
var Client []byte

// Image says how to build the application's image, given a folder inside troupe's source.
func Image(dir string) image.Config {
	return image.Config{Name: ImageName, Program: "github.com/troupe-run/troupe/testkit/example/web", Dir: dir}
}
