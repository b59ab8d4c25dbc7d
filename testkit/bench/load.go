package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// lookEvery is how often the load generator looks at its Deployments: often enough for an error of
// two percent at most, to our own disadvantage, and seldom enough to cost nothing.
const lookEvery = 100 * time.Millisecond

// Load is a number of equal Deployments that are created at once.
type Load struct {
	// Client reaches the cluster. Required.
	Client kubernetes.Interface
	// Namespace gets the Deployments and must exist. Empty means "default".
	Namespace string
	// Deployments is how many there are, Replicas how many pods each has. Both required.
	Deployments, Replicas int
}

// Pods is how many pods the load consists of.
func (l Load) Pods() int { return l.Deployments * l.Replicas }

// Run creates the Deployments and returns how long it took from the first request until the last
// pod was ready, which is when its container runs. It has been checked that all pods are Running.
func (l Load) Run(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	if err := l.create(ctx); err != nil {
		return 0, err
	}
	for tick := time.NewTicker(lookEvery); ; {
		ready, err := l.ready(ctx)
		if err != nil {
			return 0, err
		}
		if ready == l.Pods() {
			tick.Stop()
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("%d of %d pods are ready: %w", ready, l.Pods(), ctx.Err())
		}
	}
	took := time.Since(begun)
	return took, l.check(ctx)
}

func (l Load) create(ctx context.Context) error {
	errs := make([]error, l.Deployments)
	var wg sync.WaitGroup
	for i := range l.Deployments {
		wg.Go(func() {
			_, errs[i] = l.Client.AppsV1().Deployments(l.namespace()).Create(ctx, deployment(fmt.Sprint("load-", i), int32(l.Replicas)), metav1.CreateOptions{})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// ready asks the Deployments, which are few, instead of the pods: the measurement shall not be a
// load of its own.
func (l Load) ready(ctx context.Context) (n int, err error) {
	list, err := l.Client.AppsV1().Deployments(l.namespace()).List(ctx, metav1.ListOptions{LabelSelector: loadLabel})
	if err != nil {
		return 0, fmt.Errorf("list deployments: %w", err)
	}
	for i := range list.Items {
		n += int(list.Items[i].Status.ReadyReplicas)
	}
	return n, nil
}

// check counts the pods themselves.
func (l Load) check(ctx context.Context) error {
	list, err := l.Client.CoreV1().Pods(l.namespace()).List(ctx, metav1.ListOptions{LabelSelector: loadLabel})
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	running := 0
	for i := range list.Items {
		if p := &list.Items[i]; p.Status.Phase == corev1.PodRunning && p.Spec.NodeName != "" {
			running++
		}
	}
	if running != l.Pods() {
		return fmt.Errorf("%d pods run, wanted %d", running, l.Pods())
	}
	return nil
}

func (l Load) namespace() string {
	if l.Namespace == "" {
		return metav1.NamespaceDefault
	}
	return l.Namespace
}

// loadLabel marks all objects of a load.
const loadLabel = "troupe.run/load"

// deployment is like those of real applications in what its pods weigh: an environment, requests.
func deployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name, loadLabel: "true"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name:  "web",
					Image: "registry.example/web:v1",
					Env:   []corev1.EnvVar{{Name: "MODE", Value: "load"}},
					Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
				}}},
			},
		},
	}
}
