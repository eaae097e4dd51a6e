// Package backup makes backups of an installation while its server works, says how long they
// are kept, verifies them, and unpacks them.
//
// A backup holds the database, the homes of all agents, the operator's own skills, and the
// master key if that is in the data directory. Skills that callers have uploaded are in the
// database. Each home is from one moment, and so are the records of its agent: an agent whose
// records have changed between the copy of its home and that of the database is copied again.
package backup

import (
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/homecopy"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/repository"
	"agento.host/agento/internal/vault"
)

// Names in the directory that Unpack writes. They are those of a data directory.
const (
	DatabaseName  = "agento.db"  // one file without a WAL, mode 0600, with the schema of Manifest.Schema
	MasterKeyName = "master.key" // mode 0600; only if Manifest.MasterKey.Included
	AgentsName    = "agents"     // AgentsName/ID/home is the home of an agent, AgentsName/ID/installation the id of the installation
	CatalogName   = "catalog"    // the directory of serve --catalog; only if Manifest.Catalog
)

// Names of the homes of a repository that are no agent's.
const (
	recordsHome = "database" // the database and the master key
	catalogHome = "catalog"
)

// format is the version of the manifest. A newer one is refused.
const format = 1

// Access opens backups. At most one of its fields is set; none opens what is not protected.
type Access struct {
	Passphrase vault.Secret // of a repository
	Identity   vault.Secret // private keys of age, one a line, of a backup that was made for a recipient
}

// Manifest says what a backup holds.
type Manifest struct {
	Format       int       `json:"format"`
	ID           string    `json:"id"` // sorts by the time when the backup began
	Began        time.Time `json:"began"`
	Ended        time.Time `json:"ended"`
	Version      string    `json:"version"` // of agento
	Installation string    `json:"installation"`
	Schema       int       `json:"schema"` // of the database
	MasterKey    MasterKey `json:"masterKey"`
	Agents       []Agent   `json:"agents"`
	Catalog      bool      `json:"catalog"` // it has the operator's own skills

	Bytes  int64 `json:"bytes"`  // of everything that it holds
	Stored int64 `json:"stored"` // what it has added to the repository

	Database     repository.Content `json:"databaseContent"`
	KeyContent   repository.Content `json:"keyContent,omitempty"`
	CatalogTable repository.Content `json:"catalogTable,omitempty"`
}

// MasterKey is the key that the database needs.
type MasterKey struct {
	Fingerprint string `json:"fingerprint"` // empty: nothing is encrypted with a key
	Included    bool   `json:"included"`    // the backup has the key itself
}

// Agent is an agent of a backup.
type Agent struct {
	ID    identity.AgentID `json:"id"`
	Files int              `json:"files"`
	Bytes int64            `json:"bytes"`
	Held  time.Duration    `json:"held"` // the longest time that its gateway was held at once

	// Problem is a clause that says why the home is missing (Missing), or not from one moment
	// with itself or with the records; empty: it is.
	Problem string `json:"problem,omitempty"`
	Missing bool   `json:"missing,omitempty"`

	Without int                `json:"without,omitempty"` // entries of the home that the backup does not have
	LeftOut []homecopy.LeftOut `json:"leftOut,omitempty"` // the first of them

	Table repository.Content `json:"table,omitempty"` // where the entries of the home are
}

// States of a backup.
const (
	Complete   = "complete"   // everything is in it, each agent from one moment
	Loose      = "loose"      // everything is in it, but some agents are not from one moment
	Incomplete = "incomplete" // agents are missing in it
)

// State returns the state of the backup.
func (m Manifest) State() string {
	state := Complete
	for _, a := range m.Agents {
		if a.Missing {
			return Incomplete
		}
		if a.Problem != "" {
			state = Loose
		}
	}
	return state
}

// maxNamed is how many agents a sentence names.
const maxNamed = 3

// Problem returns a sentence about the agents that are missing or not from one moment; empty
// if there are none.
func (m Manifest) Problem() string {
	var named []string
	n := 0
	for _, a := range m.Agents {
		if a.Problem == "" {
			continue
		}
		if n++; n <= maxNamed {
			named = append(named, fmt.Sprintf("%s (%s)", a.ID, a.Problem))
		}
	}
	if n == 0 {
		return ""
	}
	if n > maxNamed {
		named = append(named, fmt.Sprintf("and %d more", n-maxNamed))
	}
	return "Not as they should be are the agents " + strings.Join(named, ", ") + "."
}

// Held returns the longest time that a gateway was held at once.
func (m Manifest) Held() (longest time.Duration) {
	for _, a := range m.Agents {
		longest = max(longest, a.Held)
	}
	return longest
}

// idTime is the format of the ids of backups.
const idTime = "20060102T150405.000Z"

func newID(now time.Time) string { return now.UTC().Format(idTime) }
