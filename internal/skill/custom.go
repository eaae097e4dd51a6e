package skill

import (
	"agento.host/agento/internal/identity"

	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
)

// Bounds of what an account may keep in its own catalog.
const (
	maxUploads     = 1000      // versions
	maxUploadBytes = 256 << 20 // of all of them
)

// Upload adds a version of a skill to the account's own catalog. Its files hold
// SKILL.md; id, name and version are required, the rest of the manifest is not.
// A version is there for good: it cannot be replaced, and a new one must be
// higher than every one before it, deleted ones included.
// A skill that scores too low is kept, with its findings, but cannot be installed.
// Faults: Invalid; TooLarge; Conflict, if the version is not higher or the id is
// that of a verified skill.
func (s *Service) Upload(ctx context.Context, accountID, actor string, m Manifest, files map[string][]byte) (Item, error) {
	if err := required(m); err != nil {
		return Item{}, err
	}
	p, err := newPackage(m, Custom, files)
	if err != nil {
		return Item{}, err
	}
	if _, taken := s.Catalog.Find(p.ID); taken {
		return Item{}, fault.New(fault.Conflict, "The id %s is that of a verified skill. Choose another.", p.ID).With("id", "is taken")
	}
	u, err := newUpload(accountID, p)
	if err != nil {
		return Item{}, err
	}
	err = s.DB.Tx(ctx, func(tx *database.Tx) error {
		if err := u.fits(ctx, tx); err != nil {
			return err
		}
		if err := insertUpload(ctx, tx, u); err != nil {
			return err
		}
		if err := putFiles(ctx, tx, accountID, u.id, files); err != nil {
			return err
		}
		return s.tellUpload(ctx, tx, u, "skill.uploaded", actor)
	})
	if err != nil {
		return Item{}, fmt.Errorf("upload skill: %w", err)
	}
	return s.Get(ctx, accountID, p.ID, Custom)
}

func required(m Manifest) error {
	wrong := fault.Fields{}
	for field, value := range map[string]string{"id": m.ID, "name": m.Name, "version": m.Version} {
		if value == "" {
			wrong.Add(field, "is missing")
		}
	}
	return wrong.Err()
}

func newUpload(accountID string, p Package) (upload, error) {
	report, err := json.Marshal(p.Report)
	if err != nil {
		return upload{}, fmt.Errorf("keep report: %w", err)
	}
	u := upload{id: newID("cs_"), accountID: accountID, manifest: p.Manifest, report: string(report), digest: p.Digest, createdAt: now()}
	for _, data := range p.Files {
		u.size += int64(len(data))
	}
	return u, nil
}

// fits refuses a version that is not higher, and an account that keeps too much.
func (u upload) fits(ctx context.Context, tx *database.Tx) error {
	before, err := uploadsOf(ctx, tx, u.accountID, u.manifest.ID)
	if err != nil {
		return err
	}
	if len(before) > 0 && !newer(u.manifest.Version, before[0].manifest.Version) {
		return fault.New(fault.Conflict, "Version %s of %s was uploaded before; a new version must be higher.", before[0].manifest.Version, u.manifest.ID).
			With("latestVersion", before[0].manifest.Version)
	}
	type kept struct{ versions, bytes int64 }
	have, err := database.One(ctx, tx, func(r database.Row) (k kept, err error) { return k, r.Scan(&k.versions, &k.bytes) },
		`SELECT COUNT(*), COALESCE(SUM(size), 0) FROM custom_skills WHERE account_id = $1 AND deleted_at = 0`, u.accountID)
	if err != nil {
		return err
	}
	if have.versions >= maxUploads || have.bytes+u.size > maxUploadBytes {
		return fault.New(fault.TooLarge, "The account keeps %d versions of custom skills with %d bytes; %d and %d are allowed. Delete a skill first.", have.versions, have.bytes, maxUploads, maxUploadBytes)
	}
	return nil
}

// Delete removes every version of a custom skill from the account's catalog.
// Agents that have it keep it. Faults: NotFound.
func (s *Service) Delete(ctx context.Context, accountID, actor, skillID string) error {
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		all, err := uploadsOf(ctx, tx, accountID, skillID)
		if err != nil {
			return err
		}
		deleted := 0
		for _, u := range all {
			if !u.deletedAt.IsZero() {
				continue
			}
			deleted++
			if _, err := tx.ExecContext(ctx, `UPDATE custom_skills SET deleted_at = $1 WHERE account_id = $2 AND id = $3`, database.Millis(now()), accountID, u.id); err != nil {
				return err
			}
			if err := dropFiles(ctx, tx, accountID, u.id); err != nil {
				return err
			}
		}
		if deleted == 0 {
			return fault.New(fault.NotFound, "There is no custom skill %s. GET /v1/skills?trustLevel=custom lists them.", quote(skillID))
		}
		return s.tellUpload(ctx, tx, all[0], "skill.deleted", actor)
	})
	if err != nil {
		return fmt.Errorf("delete custom skill: %w", err)
	}
	return nil
}

func (s *Service) versions(ctx context.Context, accountID, skillID string) ([]string, error) {
	all, err := uploadsOf(ctx, s.DB, accountID, skillID)
	if err != nil {
		return nil, fmt.Errorf("list versions: %w", err)
	}
	out := []string{}
	for _, u := range all {
		if u.deletedAt.IsZero() {
			out = append(out, u.manifest.Version)
		}
	}
	return out, nil
}

func (s *Service) tellUpload(ctx context.Context, tx *database.Tx, u upload, kind, actor string) error {
	if s.Events == nil {
		return nil
	}
	return s.Events.Append(ctx, tx, identity.ParseActor(identity.AccountID(u.accountID), actor), event.Event{Topic: event.Topic("skill/" + u.manifest.ID), Kind: kind,
		Data: map[string]any{"skillId": u.manifest.ID, "version": u.manifest.Version}})
}

// TextFile is a file as JSON carries it.
type TextFile struct {
	Path     string
	Content  string
	Encoding string // utf8, or base64; empty: utf8
}

// Assemble makes the files of a skill of what an upload carries. Faults: Invalid.
func Assemble(skillMD string, helpers []TextFile) (map[string][]byte, error) {
	files := map[string][]byte{mainFile: []byte(skillMD)}
	wrong := fault.Fields{}
	for i, h := range helpers {
		field := fmt.Sprintf("files[%d]", i)
		data := []byte(h.Content)
		switch h.Encoding {
		case "", "utf8":
		case "base64":
			var err error
			if data, err = base64.StdEncoding.DecodeString(h.Content); err != nil {
				wrong.Add(field, "has content that is not base64")
			}
		default:
			wrong.Add(field, "has an encoding that is not utf8 or base64")
		}
		if _, twice := files[h.Path]; twice {
			wrong.Add(field, "has a path that another file has")
		}
		files[h.Path] = data
	}
	return files, wrong.Err()
}
