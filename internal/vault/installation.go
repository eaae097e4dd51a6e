package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
)

// InstallationAccount and InstallationOwner own the installation's secrets. No account
// has the empty id, and the methods of Vault refuse it: requests to the API cannot
// reach these secrets.
const (
	InstallationAccount identity.AccountID = ""
	InstallationOwner   OwnerID            = "installation"
)

// EmbedderAPIKey is the API key of the embedding service.
const EmbedderAPIKey provider.SecretName = "EMBEDDER_API_KEY"

// GitHubToken is a token of GitHub's API, with which skills are downloaded.
const GitHubToken provider.SecretName = "GITHUB_TOKEN"

// OIDCClientSecret is the secret by which the installation is known to the OpenID provider.
const OIDCClientSecret provider.SecretName = "OIDC_CLIENT_SECRET"

// MaxInstallationSecret is the longest secret of the installation, in bytes.
const MaxInstallationSecret = 8 << 10

// installationSecrets are the secrets that the installation can have.
var installationSecrets = []InstallationSecret{
	{Name: EmbedderAPIKey, Use: "key of the embedding service (--embedder openai)"},
	{Name: GitHubToken, Use: "token of GitHub, for skills that are installed from it; every account can install what it can read"},
	{Name: OIDCClientSecret, Use: "secret of this installation at the OpenID provider (--oidc-issuer); a provider that knows it without one needs none"},
}

// InstallationSecret describes a secret of the installation, without its value.
type InstallationSecret struct {
	Name  provider.SecretName
	Use   string
	SetAt time.Time // zero: it is not set
	// Unreadable is true if the secret is set and cannot be decrypted: set it again.
	Unreadable bool
}

// Installation stores the secrets of the installation itself. The operator sets them,
// and no account can see them. Several processes may use it on one database.
type Installation struct {
	db     *database.DB
	vault  *Vault
	events *event.Log
}

// NewInstallation returns the installation's secrets in db. With a nil vault it can list
// them.
func NewInstallation(db *database.DB, v *Vault, events *event.Log) *Installation {
	return &Installation{db: db, vault: v, events: events}
}

// Set stores a secret and replaces an older one. The value is sent in an HTTP header,
// so it must have printable ASCII characters only. Faults: Invalid.
func (i *Installation) Set(ctx context.Context, actor identity.Actor, name provider.SecretName, value Secret) error {
	if err := errors.Join(checkInstallationName(name), checkInstallationValue(value.Reveal())); err != nil {
		return err
	}
	return i.db.Tx(ctx, "vault.set", func(ctx context.Context, tx *database.Tx) error {
		secrets := map[provider.SecretName]Secret{name: value}
		if err := i.vault.put(ctx, tx, InstallationAccount, InstallationOwner, secrets); err != nil {
			return err
		}
		return i.appendEvent(ctx, tx, actor, map[string]any{"set": []provider.SecretName{name}})
	})
}

// Delete deletes a secret. It is no error if the secret is not set. Deleting the last
// secret also deletes the data key. Faults: Invalid.
func (i *Installation) Delete(ctx context.Context, actor identity.Actor, name provider.SecretName) error {
	if err := checkInstallationName(name); err != nil {
		return err
	}
	return i.db.Tx(ctx, "vault.delete", func(ctx context.Context, tx *database.Tx) error {
		n, err := database.Exec(ctx, tx, `DELETE FROM secrets WHERE account_id = $1 AND owner_id = $2 AND name = $3`, InstallationAccount, InstallationOwner, name)
		if err != nil || n == 0 {
			return err
		}
		tx.Erase()
		remaining, err := i.setTimes(ctx, tx)
		if err != nil {
			return err
		}
		if len(remaining) == 0 {
			if err := i.vault.shred(ctx, tx, InstallationAccount, InstallationOwner); err != nil {
				return err
			}
		}
		return i.appendEvent(ctx, tx, actor, map[string]any{"deleted": []provider.SecretName{name}})
	})
}

// List returns every secret that the installation can have, and when it was set.
func (i *Installation) List(ctx context.Context) ([]InstallationSecret, error) {
	times, err := i.setTimes(ctx, i.db)
	if err != nil {
		return nil, err
	}
	owned := map[OwnerID]Owned{}
	if i.vault != nil {
		if err := i.vault.readBatch(ctx, i.db, InstallationAccount, []OwnerID{InstallationOwner}, owned); err != nil {
			return nil, fmt.Errorf("list the installation's secrets: %w", err)
		}
	}
	all := append([]InstallationSecret{}, installationSecrets...)
	for n := range all {
		all[n].SetAt = times[all[n].Name]
		all[n].Unreadable = owned[InstallationOwner].isUnreadable(all[n].Name)
	}
	return all, nil
}

// Read returns the current value of a secret, empty if it is not set.
func (i *Installation) Read(ctx context.Context, name provider.SecretName) (Secret, error) {
	all, err := i.vault.read(ctx, i.db, InstallationAccount, InstallationOwner)
	if err != nil {
		return Secret{}, fmt.Errorf("read the installation's secrets (set them again with agento installation secrets set): %w", err)
	}
	return all[name], nil
}

// setTimes returns when each secret that is set was set.
func (i *Installation) setTimes(ctx context.Context, q database.Reader) (map[provider.SecretName]time.Time, error) {
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
	times := make(map[provider.SecretName]time.Time, len(rows))
	for _, s := range rows {
		times[s.Name] = s.SetAt
	}
	return times, nil
}

// appendEvent appends to the audit log without an account, whatever account the actor
// has: no account can see the event.
func (i *Installation) appendEvent(ctx context.Context, tx *database.Tx, actor identity.Actor, data map[string]any) error {
	actor.AccountID = InstallationAccount
	return i.events.Append(ctx, tx, actor, event.Event{
		Topic: "installation/secrets", Kind: "installation.secrets_updated", Data: data,
	})
}

// checkInstallationName does not repeat the name in the fault: it may be a secret that
// was typed in the wrong place.
func checkInstallationName(name provider.SecretName) error {
	names := make([]string, len(installationSecrets))
	for n, s := range installationSecrets {
		if s.Name == name {
			return nil
		}
		names[n] = string(s.Name)
	}
	return fault.New(fault.Invalid, "The installation has no secret of that name. Use one of: %s.", strings.Join(names, ", "))
}

func checkInstallationValue(value string) error {
	switch {
	case value == "":
		return fault.New(fault.Invalid, "The secret is empty. To remove it, delete it.")
	case len(value) > MaxInstallationSecret:
		return fault.New(fault.Invalid, "The secret is longer than %d bytes.", MaxInstallationSecret)
	}
	if problem := provider.HeaderProblem(value); problem != "" {
		return fault.New(fault.Invalid, "The secret %s.", problem)
	}
	return nil
}
