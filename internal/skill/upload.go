package skill

import (
	"context"
	"encoding/json"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// Limits of the uploads that an account keeps.
const (
	maxUploads     = 1000      // versions
	maxUploadBytes = 256 << 20 // of all versions
)

// Upload adds a version of a skill to the account's own catalog. The files must include
// SKILL.md; of the manifest only id, name and version are required. A version cannot be
// replaced, and a new one must be higher than every earlier one, also deleted ones. A
// skill whose score is too low is kept, with its findings, but cannot be installed.
// Faults: Invalid; TooLarge; Conflict, if the version is not higher or a verified skill
// has the id; RateLimited and Unavailable, if too many scans wait.
func (s *Service) Upload(ctx context.Context, actor identity.Actor, m Manifest, files map[string][]byte) (Item, error) {
	if err := requireFields(m); err != nil {
		return Item{}, err
	}
	p, err := s.scanPackage(ctx, actor.AccountID, m, Custom, files)
	if err != nil {
		return Item{}, err
	}
	if _, ok := s.catalog.Find(p.ID); ok {
		return Item{}, fault.New(fault.Conflict, "A verified skill has the id %s. Choose another id.", p.ID).With("id", "is taken")
	}
	u, err := newUpload(actor.AccountID, p)
	if err != nil {
		return Item{}, err
	}
	err = s.store.db.Tx(ctx, "skill.upload", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockUploads, string(actor.AccountID)); err != nil {
			return err
		}
		if _, ok, err := s.events.Repeated(ctx, tx, actor); ok || err != nil {
			return err // an earlier execution of the request has stored it
		}
		if err := u.checkVersion(ctx, tx); err != nil {
			return err
		}
		if err := u.checkLimits(ctx, tx); err != nil {
			return err
		}
		if err := insertUpload(ctx, tx, u); err != nil {
			return err
		}
		if err := replaceFiles(ctx, tx, u.account, u.id, files); err != nil {
			return err
		}
		return s.appendUploadEvent(ctx, tx, actor, u, "skill.uploaded")
	})
	if err != nil {
		return Item{}, fmt.Errorf("upload skill: %w", err)
	}
	return s.Get(ctx, actor.AccountID, p.ID, Custom)
}

// requireFields returns an Invalid fault with the fields of an upload that are missing.
func requireFields(m Manifest) error {
	wrong := fault.Fields{}
	for field, value := range map[string]string{"id": m.ID, "name": m.Name, "version": m.Version} {
		if value == "" {
			wrong.Add(field, "is missing")
		}
	}
	return wrong.Err()
}

func newUpload(account identity.AccountID, p Package) (upload, error) {
	report, err := json.Marshal(p.Report)
	if err != nil {
		return upload{}, fmt.Errorf("encode report: %w", err)
	}
	u := upload{id: newID("cs_"), account: account, manifest: p.Manifest, report: string(report), digest: p.Digest, createdAt: now()}
	for _, data := range p.Files {
		u.size += int64(len(data))
	}
	return u, nil
}

// checkVersion refuses a version that is not higher than every earlier one. Faults:
// Conflict.
func (u upload) checkVersion(ctx context.Context, q database.Reader) error {
	earlier, err := listUploads(ctx, q, u.account, u.manifest.ID)
	if err != nil {
		return err
	}
	if len(earlier) > 0 && !newer(u.manifest.Version, earlier[0].manifest.Version) {
		return fault.New(fault.Conflict, "Version %s of %s was uploaded before. A new version must be higher.", earlier[0].manifest.Version, u.manifest.ID).
			With("latestVersion", earlier[0].manifest.Version)
	}
	return nil
}

// checkLimits refuses an upload with which the account would keep too much. Faults:
// TooLarge.
func (u upload) checkLimits(ctx context.Context, q database.Reader) error {
	versions, size, err := sumUploads(ctx, q, u.account)
	if err != nil {
		return err
	}
	if versions >= maxUploads || size+u.size > maxUploadBytes {
		return fault.New(fault.TooLarge, "The account has %d versions of custom skills with %d bytes; at most %d versions and %d bytes are allowed. Delete a skill first.",
			versions, size, maxUploads, maxUploadBytes)
	}
	return nil
}

// Delete deletes every version of a custom skill from the account's catalog. Agents that
// have the skill keep it. Faults: NotFound.
func (s *Service) Delete(ctx context.Context, actor identity.Actor, skillID string) error {
	err := s.store.db.Tx(ctx, "skill.delete", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockUploads, string(actor.AccountID)); err != nil {
			return err
		}
		all, err := listUploads(ctx, tx, actor.AccountID, skillID)
		if err != nil {
			return err
		}
		deleted := 0
		for _, u := range all {
			if !u.deletedAt.IsZero() {
				continue
			}
			deleted++
			if err := deleteUpload(ctx, tx, u); err != nil {
				return err
			}
		}
		if deleted == 0 {
			return fault.New(fault.NotFound, "There is no custom skill %s. GET /v1/skills?trustLevel=custom lists them.", quote(skillID))
		}
		return s.appendUploadEvent(ctx, tx, actor, all[0], "skill.deleted")
	})
	if err != nil {
		return fmt.Errorf("delete custom skill: %w", err)
	}
	return nil
}

// versions returns the versions of a custom skill, highest first.
func (s *Service) versions(ctx context.Context, account identity.AccountID, skillID string) ([]string, error) {
	all, err := listUploads(ctx, s.store.db, account, skillID)
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

func (s *Service) appendUploadEvent(ctx context.Context, tx *database.Tx, actor identity.Actor, u upload, kind string) error {
	return s.events.Append(ctx, tx, actor, event.Event{
		Topic: event.Topic("skill/" + u.manifest.ID), Kind: kind, Data: map[string]any{"skillId": u.manifest.ID, "version": u.manifest.Version},
	})
}
