package node

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestNodeImages(t *testing.T) {
	many := make([]*cri.Image, 0, 60)
	for i := range 60 {
		many = append(many, &cri.Image{RepoTags: []string{fmt.Sprintf("example/many:%02d", i)}, Size: uint64(i)})
	}
	for _, tt := range []struct {
		name string
		in   []*cri.Image
		want []corev1.ContainerImage
	}{
		{"none", nil, []corev1.ContainerImage{}},
		{"digests first", []*cri.Image{{RepoTags: []string{"a:1", "a:2"}, RepoDigests: []string{"a@sha256:1"}, Size: 7}},
			[]corev1.ContainerImage{{Names: []string{"a@sha256:1", "a:1", "a:2"}, SizeBytes: 7}}},
		{"five names", []*cri.Image{{RepoTags: []string{"1", "2", "3", "4", "5", "6"}}},
			[]corev1.ContainerImage{{Names: []string{"1", "2", "3", "4", "5"}}}},
		{"the biggest first, then by name", []*cri.Image{{RepoTags: []string{"b"}, Size: 1}, {RepoTags: []string{"a"}, Size: 1}, {RepoTags: []string{"c"}, Size: 2}},
			[]corev1.ContainerImage{{Names: []string{"c"}, SizeBytes: 2}, {Names: []string{"a"}, SizeBytes: 1}, {Names: []string{"b"}, SizeBytes: 1}}},
		{"without a name", []*cri.Image{{Id: "sha256:1", Size: 1}}, []corev1.ContainerImage{}},
	} {
		if diff := cmp.Diff(tt.want, nodeImages(tt.in)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	if got := nodeImages(many); len(got) != 50 || got[0].SizeBytes != 59 || got[49].SizeBytes != 10 {
		t.Errorf("of 60 images: %d, %v", len(got), got)
	}
}
