package bus

import (
	"fmt"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/troupe-run/troupe/messages"
)

// observersAccount isolates observers. Whoever may create or pull a JetStream consumer chooses
// the subject it delivers to, unchecked by permissions; inside an account of their own observers
// can reach nothing but the change subjects that are imported there. The change stream lives in
// this account for the same reason.
const observersAccount = "OBSERVERS"

func (b *Bus) openObservers(srv *server.Server) error {
	acc, err := srv.RegisterAccount(observersAccount)
	if err != nil {
		return fmt.Errorf("register account %s: %w", observersAccount, err)
	}
	changes := messages.ChangePrefix(b.cfg.Region) + ">"
	control := srv.GlobalAccount()
	if err := control.AddStreamExport(changes, nil); err != nil {
		return fmt.Errorf("export %s: %w", changes, err)
	}
	if err := acc.AddStreamImport(control, changes, ""); err != nil {
		return fmt.Errorf("import %s: %w", changes, err)
	}
	if err := acc.EnableJetStream(nil, nil); err != nil {
		return fmt.Errorf("enable jetstream for account %s: %w", observersAccount, err)
	}
	b.observers.Store(acc)
	return nil
}
