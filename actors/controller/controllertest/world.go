package controllertest

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/actors/stage"
)

// World is a store with controllers running on it.
type World struct {
	*objectstest.Store
	t      testing.TB
	system *stage.System
}

// Run calls test in a bubble with a store that holds objs. Controllers join by [World.Start]; they
// are stopped when test returns.
func Run(t *testing.T, test func(t *testing.T, w *World), objs ...objects.Object) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &World{Store: objectstest.New(clock.RealClock{}, objs...), t: t, system: stage.New(stage.Config{})}
		defer func() {
			if err := w.system.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		test(t, w)
	})
}

// Deps returns what a controller gets in this world.
func (w *World) Deps() controller.Deps {
	return controller.Deps{Reader: w.Store, Writer: w.Store, Feed: w.Store, Recorder: w.Recorder,
		Clock: clock.RealClock{}, Log: slog.New(slog.DiscardHandler)}
}

// Start runs a controller and waits until it has nothing to do at this moment.
func (w *World) Start(spec controller.Spec) {
	w.t.Helper()
	if _, err := w.system.Spawn(controller.Props(spec, w.Deps()), spec.Name); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

// Settle lets a second pass, longer than controllers keep their runs apart.
func (w *World) Settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}
