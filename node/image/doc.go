// Package image gets container images onto a node: pulls through CRI by pull policy and with the
// pod's credentials ([Puller.Ensure]), imports and lists archives through the containerd client
// ([Import], [List]), and writes OCI archives without any tool ([Recipe.Write]).
//
//	p, err := image.NewPuller(image.PullerConfig{Service: criImages, Log: log})
//	ref, err := p.Ensure(ctx, image.Request{Image: c.Image, Policy: c.ImagePullPolicy, PodUID: uid, Secrets: s})
//	var e *image.Error // errors.As: e.Reason is ErrImagePull, ImagePullBackOff, ErrImageNeverPull, ...
//
// Ensure blocks while an image is pulled, may be called by many pods at once, and pulls one image
// once. A failed pull is not tried again before its back-off is over: the caller simply calls again.
package image
