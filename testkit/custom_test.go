package testkit_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/troupe-run/troupe/testkit"
)

const mice = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: mice.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: mice, singular: mouse, kind: Mouse, shortNames: [ms]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Colour, type: string, jsonPath: .spec.colour}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, description: How the mouse looks., properties: {colour: {type: string, default: grey}}}
`

func mouse(name string, owners ...metav1.OwnerReference) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Mouse", "metadata": map[string]any{"name": name}, "spec": map[string]any{}}}
	u.SetOwnerReferences(owners)
	return u
}

// TestControllersSeeCustomResources goes through all that happens to objects of any kind.
func TestControllersSeeCustomResources(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(mice)
		c.WaitFor("CustomResourceDefinition.apiextensions.k8s.io mice.example.com", testkit.Is("Established", "True"))
		c.Apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}")
		client := func(namespace string) dynamic.ResourceInterface {
			d, err := dynamic.NewForConfig(c.Config())
			if err != nil {
				t.Fatal(err)
			}
			return d.Resource(schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "mice"}).Namespace(namespace)
		}
		create := func(namespace string, m *unstructured.Unstructured) metav1.OwnerReference {
			made, err := client(namespace).Create(t.Context(), m, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return metav1.OwnerReference{APIVersion: "example.com/v1", Kind: "Mouse", Name: made.GetName(), UID: made.GetUID()}
		}
		gone := func(namespace, name string) func() bool {
			return func() bool {
				_, err := client(namespace).Get(t.Context(), name, metav1.GetOptions{})
				return err != nil
			}
		}
		// A chain of owners: mouse, mouse, ConfigMap, mouse.
		grandmother := create("shop", mouse("grandmother"))
		mother := create("shop", mouse("mother", grandmother))
		c.Apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: nest, namespace: shop, ownerReferences: [{apiVersion: example.com/v1, kind: Mouse, name: mother, uid: " + string(mother.UID) + "}]}")
		nest := c.Get("ConfigMap shop/nest")
		create("shop", mouse("child", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "nest", UID: nest.GetUID()}))
		create("shop", mouse("stranger"))
		c.Advance(time.Minute)
		for _, name := range []string{"mother", "child", "stranger"} {
			if gone("shop", name)() {
				t.Errorf("%s has gone without a reason", name)
			}
		}
		if err := client("shop").Delete(t.Context(), "grandmother", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.Until("the mouse's descendants go", gone("shop", "child"))
		c.WaitFor("ConfigMap shop/nest", testkit.Gone)

		c.Restart()
		m, err := client("shop").Get(t.Context(), "stranger", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if colour, _, _ := unstructured.NestedString(m.Object, "spec", "colour"); colour != "grey" {
			t.Errorf("after a restart it is %v", m)
		}
		create("default", mouse("elsewhere"))
		c.Delete("Namespace shop")
		c.WaitLong("Namespace shop", testkit.Gone, time.Minute)
		if gone("default", "elsewhere")() {
			t.Error("a mouse of another namespace has gone")
		}
		c.Delete("CustomResourceDefinition.apiextensions.k8s.io mice.example.com")
		c.WaitLong("CustomResourceDefinition.apiextensions.k8s.io mice.example.com", testkit.Gone, time.Minute)
	}, testkit.DataDir(t.TempDir()))
}

func TestKubectlAndCustomResources(t *testing.T) {
	t.Parallel()
	c := testkit.Start(t)
	c.KubectlInput(mice, "apply", "-f", "-")
	c.Kubectl("wait", "--for=condition=Established", "crd/mice.example.com", "--timeout=30s")
	const manifest = "apiVersion: example.com/v1\nkind: Mouse\nmetadata: {name: m}\nspec: {colour: white}"
	for _, args := range [][]string{{"apply", "-f", "-"}, {"apply", "-f", "-"}, {"apply", "--server-side", "--force-conflicts", "-f", "-"}} {
		c.KubectlInput(manifest, args...)
	}
	for _, test := range []struct{ args, want string }{
		{"get ms", "white"},
		{"get mouse m -o jsonpath={.spec.colour}", "white"},
		{"explain mouse.spec", "How the mouse looks."},
		{"explain --api-version=example.com/v1 mice.spec.colour", "FIELD: colour <string>"},
		{"api-resources --api-group=example.com", "Mouse"},
		{"get apiservices v1.example.com", "Local"},
		{"get crds", "mice.example.com"},
		{"describe mouse m", "Colour:  white"},
		{"patch mouse m --type=merge -p {\"spec\":{\"colour\":\"brown\"}}", "patched"},
		{"label mouse m size=small", "labeled"},
		{"delete mouse --all", "deleted"},
		{"delete crd mice.example.com", "deleted"},
	} {
		if out := c.Kubectl(strings.Fields(test.args)...); !strings.Contains(out, test.want) {
			t.Errorf("kubectl %s:\n%s\nwant %q", test.args, out, test.want)
		}
	}
	c.KubectlFails("get", "mice")
}
