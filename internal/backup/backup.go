// Package backup makes backups of an installation while its server works, and unpacks them.
//
// A backup holds the database, the homes of all agents, the operator's own skills, and the
// master key if that is in the data directory. Skills that callers have uploaded are in the
// database.
package backup

import (
	"context"
	"errors"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// Names in the directory that Unpack writes. They are those of a data directory.
const (
	DatabaseName  = "agento.db"  // one file without a WAL, mode 0600, with the schema of Manifest.Schema
	MasterKeyName = "master.key" // mode 0600; only if Manifest.MasterKey.Included
	AgentsName    = "agents"     // AgentsName/ID/home is the home of an agent, AgentsName/ID/installation the id of the installation
	CatalogName   = "catalog"    // the directory of serve --catalog; only if the server had one
)

// Access opens the copies. One of its fields is set.
type Access struct {
	Passphrase vault.Secret // of a repository
	Identity   vault.Secret // the private keys, one a line, of a backup that was made for an age recipient
	Plain      bool         // the copies are not protected
}

// Manifest says what a backup holds.
type Manifest struct {
	Format       int       `json:"format"` // of the manifest
	ID           string    `json:"id"`     // of the backup; sorts by the time when it began
	Began        time.Time `json:"began"`
	Ended        time.Time `json:"ended"`
	Version      string    `json:"version"` // of agento
	Installation string    `json:"installation"`
	Schema       int       `json:"schema"` // of the database
	MasterKey    MasterKey `json:"masterKey"`
	Agents       []Agent   `json:"agents"`
}

// MasterKey is the key that the database needs.
type MasterKey struct {
	Fingerprint string `json:"fingerprint"` // empty: nothing is encrypted with a key
	Included    bool   `json:"included"`    // the backup has the key itself
}

// Agent is an agent of a backup.
type Agent struct {
	ID identity.AgentID `json:"id"`
}

// Unpack writes the data directory of a backup into dir, which is empty or does not exist,
// with no change to its contents: the installation has its old id, and nothing is migrated.
// All files belong to the caller. Whoever wants to use the directory must not find it before
// Unpack has returned: after an error it is incomplete. No file of it is a device, a pipe, or
// setuid.
func Unpack(_ context.Context, _ *Store, _ string, _ string) (Manifest, error) {
	return Manifest{}, errors.New("not written yet")
}

// Store is a place that holds backups.
type Store struct{}

// Open opens the place at a URL of gocloud.dev/blob, a directory, or a file that a backup for an age recipient
// is in. The caller closes the store.
func Open(_ context.Context, _ string, _ Access) (*Store, error) {
	return nil, errors.New("not written yet")
}

// Close closes the store.
func (s *Store) Close() error { return nil }
