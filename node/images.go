package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/actors/stage"
)

// A node names its biggest images, for the scheduler to prefer nodes that need not pull. The
// numbers are those of kubelets.
const (
	maxImages     = 50
	maxImageNames = 5
)

// How often images are listed, for they may be imported or removed by others; and how long after
// a pull, so that those of one rollout share a report.
const (
	imagesEvery = 2 * time.Minute
	imagesSoon  = 10 * time.Second
	// collectEvery is how often it is looked which images are used, and whether some have to go.
	collectEvery = 5 * time.Minute
)

type (
	// imagePulled says that an image has come by a pull.
	imagePulled struct{}
	imagesDue   struct{}
	collectDue  struct{}
)

// imageLister is what of a runtime lists images.
type imageLister interface {
	ListImages(ctx context.Context) ([]*cri.Image, error)
}

// pulledInto tells the agent of a pull.
func pulledInto(a *Agent) func() { return func() { a.stage.Send(a.pid, imagePulled{}) } }

// listImages is what goes into a node's status.
func listImages(ctx context.Context, rt imageLister) ([]corev1.ContainerImage, error) {
	all, err := rt.ListImages(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return nodeImages(all), nil
}

// nodeImages names the biggest images, in an order that only changes with them.
func nodeImages(all []*cri.Image) []corev1.ContainerImage {
	out := make([]corev1.ContainerImage, 0, len(all))
	for _, i := range all {
		names := slices.Concat(i.GetRepoDigests(), i.GetRepoTags())
		if len(names) == 0 {
			continue // nobody can ask for it
		}
		out = append(out, corev1.ContainerImage{Names: names[:min(len(names), maxImageNames)], SizeBytes: int64(i.GetSize())})
	}
	slices.SortFunc(out, func(a, b corev1.ContainerImage) int {
		return cmp.Or(cmp.Compare(b.SizeBytes, a.SizeBytes), slices.Compare(a.Names, b.Names))
	})
	return out[:min(len(out), maxImages)]
}

// imagePulled looks at the images before long.
func (g *agentActor) imagePulled(c actor.Context) {
	if !g.imagesSoon {
		g.imagesSoon = true
		g.imagesTimer.Stop()
		g.imagesTimer = stage.After(c, imagesSoon, imagesDue{})
	}
}

// lookAtImages lists the images, now and regularly, and reports what changed.
func (g *agentActor) lookAtImages(c actor.Context) {
	if g.images == nil {
		return
	}
	g.imagesSoon = false // a pull from here on may miss this list
	g.imagesTimer.Stop()
	g.imagesTimer = stage.After(c, imagesEvery, imagesDue{})
	stage.Go(c, nil, lookEvery, g.images, func(list []corev1.ContainerImage, err error) {
		if err != nil {
			g.log.Debug("images not listed, will retry", "node", g.name, "err", err)
			return
		}
		if !equality.Semantic.DeepEqual(list, g.status.Images) {
			g.status.Images = list
			g.a.link.ReportNode(*g.status.DeepCopy())
		}
	})
}

// collectImages removes unused images if there are too many, and again later.
func (g *agentActor) collectImages(c actor.Context) {
	if g.collect == nil {
		return
	}
	stage.Go(c, nil, collectEvery, func(ctx context.Context) (struct{}, error) { return struct{}{}, g.collect(ctx) }, func(_ struct{}, err error) {
		if err != nil {
			g.log.Warn("images are not collected, will retry", "node", g.name, "err", err)
		}
		stage.After(c, collectEvery, collectDue{})
		g.imagePulled(c) // the list may have changed
	})
}
