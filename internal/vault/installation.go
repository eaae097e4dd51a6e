package vault

import (
	"agento.host/agento/internal/identity"

	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
)

// InstallationAccount and InstallationOwner own the installation's own secrets. No
// account has the empty id, and the methods of Vault, which the rooms of the API
// call, refuse it: what a caller of the API may reach never leads here.
const (
	InstallationAccount = ""
	InstallationOwner   = "installation"
)

// EmbedderAPIKey is the key of the embedding service.
const EmbedderAPIKey = "EMBEDDER_API_KEY"

// MaxInstallationSecret is the longest secret of the installation, in bytes.
const MaxInstallationSecret = 8 << 10

// installationSecrets are those that the installation knows, each with its use.
var installationSecrets = []InstallationSecret{
	{Name: EmbedderAPIKey, Use: "key of the embedding service (--embedder openai)"},
}

// InstallationSecret is a secret that the installation knows, without its value.
type InstallationSecret struct {
	Name  string
	Use   string
	SetAt time.Time // zero: it is not set
}

// Installation keeps the secrets of the installation itself, which the operator
// sets and no account sees. Several processes may use it on one database.
type Installation struct {
	DB     *database.DB
	Vault  *Vault
	Events *event.Log
}

// Set stores a secret, in place of an older one. It will be sent in an HTTP header,
// so it has printable ASCII characters only. Faults: Invalid.
func (i *Installation) Set(ctx context.Context, name string, value Secret, actor string) error {
	if err := errors.Join(checkInstallationName(name), checkInstallationValue(value.Reveal())); err != nil {
		return err
	}
	return i.DB.Tx(ctx, func(tx *database.Tx) error {
		if err := i.Vault.belongs(ctx, tx); err != nil {
			return err
		}
		if err := i.Vault.put(ctx, tx, InstallationAccount, InstallationOwner, map[string]Secret{name: value}); err != nil {
			return err
		}
		return i.tell(ctx, tx, actor, map[string]any{"set": []string{name}})
	})
}

// Delete removes a secret; one that is not set is no error. With the last one goes
// the data key. Faults: Invalid.
func (i *Installation) Delete(ctx context.Context, name, actor string) error {
	if err := checkInstallationName(name); err != nil {
		return err
	}
	return i.DB.Tx(ctx, func(tx *database.Tx) error {
		n, err := database.Exec(ctx, tx, `DELETE FROM secrets WHERE account_id = $1 AND owner_id = $2 AND name = $3`, InstallationAccount, InstallationOwner, name)
		if err != nil || n == 0 {
			return err
		}
		left, err := i.times(ctx, tx)
		if err != nil {
			return err
		}
		if len(left) == 0 {
			if err := i.Vault.shred(ctx, tx, InstallationAccount, InstallationOwner); err != nil {
				return err
			}
		}
		return i.tell(ctx, tx, actor, map[string]any{"deleted": []string{name}})
	})
}

// List says of each secret that the installation knows when it was set.
func (i *Installation) List(ctx context.Context) ([]InstallationSecret, error) {
	times, err := i.times(ctx, i.DB)
	if err != nil {
		return nil, err
	}
	all := append([]InstallationSecret{}, installationSecrets...)
	for n := range all {
		all[n].SetAt = times[all[n].Name]
	}
	return all, nil
}

// Read opens a secret as it is now; it is empty if it is not set.
func (i *Installation) Read(ctx context.Context, name string) (Secret, error) {
	all, err := i.Vault.read(ctx, i.DB, InstallationAccount, InstallationOwner)
	if err != nil {
		return Secret{}, fmt.Errorf("read the installation's secrets: %w", err)
	}
	return all[name], nil
}

// times are when the secrets that are set were set, by name.
func (i *Installation) times(ctx context.Context, q database.Querier) (map[string]time.Time, error) {
	rows, err := database.All(ctx, q, func(r database.Row) (InstallationSecret, error) {
		var s InstallationSecret
		var at int64
		err := r.Scan(&s.Name, &at)
		s.SetAt = database.Time(at)
		return s, err
	}, `SELECT name, updated_at FROM secrets WHERE account_id = $1 AND owner_id = $2`, InstallationAccount, InstallationOwner)
	if err != nil {
		return nil, fmt.Errorf("list the installation's secrets: %w", err)
	}
	times := make(map[string]time.Time, len(rows))
	for _, s := range rows {
		times[s.Name] = s.SetAt
	}
	return times, nil
}

// tell appends to the audit log under no account, so that no account is shown it.
func (i *Installation) tell(ctx context.Context, tx *database.Tx, actor string, data map[string]any) error {
	return i.Events.Append(ctx, tx, identity.ParseActor(identity.AccountID(InstallationAccount), actor), event.Event{
		Topic: "installation/secrets", Kind: "installation.secrets_updated", Data: data,
	})
}

// checkInstallationName does not repeat the name: somebody may have put the secret there.
func checkInstallationName(name string) error {
	names := make([]string, len(installationSecrets))
	for n, s := range installationSecrets {
		if s.Name == name {
			return nil
		}
		names[n] = s.Name
	}
	return fault.New(fault.Invalid, "The installation has no secret of that name. It knows: %s.", strings.Join(names, ", "))
}

func checkInstallationValue(value string) error {
	switch {
	case value == "":
		return fault.New(fault.Invalid, "The secret is empty. To remove it, delete it.")
	case len(value) > MaxInstallationSecret:
		return fault.New(fault.Invalid, "The secret is longer than %d bytes.", MaxInstallationSecret)
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fault.New(fault.Invalid, "The secret must have printable ASCII characters only, without spaces and in one line: it is sent in an HTTP header.")
	}
	return nil
}
