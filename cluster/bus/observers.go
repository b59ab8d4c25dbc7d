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

// accounts defines both accounts before the server starts: a member is told by the others at once
// what streams it has, and drops those of an account it does not know. The control plane's is the
// global one, which a configuration must not name, so it gets its name afterwards.
func accounts(region string) ([]*server.Account, error) {
	const control = "CONTROL"
	changes := messages.ChangePrefix(region) + ">"
	var parsed server.Options
	err := parsed.ProcessConfigString(fmt.Sprintf(`accounts {
		%s { jetstream: enabled, exports: [ { stream: %q } ] }
		%s { jetstream: enabled, imports: [ { stream: { account: %s, subject: %q } } ] }
	}`, control, changes, observersAccount, control, changes))
	if err != nil {
		return nil, fmt.Errorf("define accounts: %w", err)
	}
	for _, a := range parsed.Accounts {
		if a.Name == control {
			a.Name = server.DEFAULT_GLOBAL_ACCOUNT
		}
	}
	return parsed.Accounts, nil
}
