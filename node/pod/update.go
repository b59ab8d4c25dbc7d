package pod

import "context"

// updateContainer gives a running container the resources its pod has been promised. The pod's
// cgroup grows first, for it may hold no less than what is in it.
func (fx *effects) updateContainer(ctx context.Context, a action, in input) (outcome, error) {
	if fx.cfg.Cgroups != nil {
		if err := fx.cfg.Cgroups.Fit(in.pod, true); err != nil {
			return outcome{}, err
		}
	}
	c := findContainer(in.pod, a.name)
	err := fx.cfg.Runtime.UpdateContainerResources(ctx, a.id, resources(in.pod, c, fx.environment(in.pod).limits))
	x, readErr := fx.status(ctx, a.id, in.container.sandbox)
	if err != nil {
		return outcome{}, err
	}
	if readErr != nil {
		return outcome{}, readErr
	}
	return outcome{containers: []container{x}}, nil
}

// fitPod brings the pod's cgroup to what its containers have.
func (fx *effects) fitPod(in input) error {
	if fx.cfg.Cgroups == nil {
		return nil
	}
	return fx.cfg.Cgroups.Fit(in.pod, false)
}
