package skill

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// upload is a version of a skill that an account uploaded.
type upload struct {
	id        string // cs_…
	account   identity.AccountID
	manifest  Manifest
	report    string // JSON
	digest    string
	size      int64 // bytes of all files
	createdAt time.Time
	deletedAt time.Time // zero: not deleted
}

const uploadColumns = `id, account_id, skill_id, version, manifest, report, digest, size, created_at, deleted_at`

func scanUpload(r database.Row) (upload, error) {
	var u upload
	var skillID, version, manifest string
	var created, deleted int64
	err := r.Scan(&u.id, &u.account, &skillID, &version, &manifest, &u.report, &u.digest, &u.size, &created, &deleted)
	if err != nil {
		return u, err
	}
	u.createdAt, u.deletedAt = database.Time(created), database.Time(deleted)
	if invalid := json.Unmarshal([]byte(manifest), &u.manifest); invalid != nil {
		err = &database.ColumnError{Column: "manifest", Err: invalid}
	}
	if _, invalid := u.scanReport(); invalid != nil {
		err = errors.Join(err, &database.ColumnError{Column: "report", Err: invalid})
	}
	u.manifest.ID, u.manifest.Version = skillID, version // also if the manifest is damaged
	return u, err
}

// damagedUpload keeps an upload whose manifest, report or times cannot be decoded: it is
// listed with what is known of it, and can be deleted.
func damagedUpload(u *upload, err error) (row string, keep bool) {
	u.manifest.Name = cmp.Or(u.manifest.Name, u.manifest.ID)
	u.manifest.Description = "The record of this skill is damaged: " + database.DescribeDamage(err) + ". Delete the skill and upload it again."
	u.report = "{}"
	return "custom skill " + u.id, true
}

func insertUpload(ctx context.Context, tx *database.Tx, u upload) error {
	manifest, err := json.Marshal(u.manifest)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO custom_skills (id, account_id, skill_id, version, manifest, report, digest, size, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		u.id, u.account, u.manifest.ID, u.manifest.Version, string(manifest), u.report, u.digest, u.size, database.Millis(u.createdAt))
	return err
}

// deleteUpload marks an upload as deleted, and deletes its files and the report, which has
// excerpts of them.
func deleteUpload(ctx context.Context, tx *database.Tx, u upload) error {
	if _, err := tx.ExecContext(ctx, `UPDATE custom_skills SET deleted_at = $1, report = '{}' WHERE account_id = $2 AND id = $3`, database.Millis(now()), u.account, u.id); err != nil {
		return err
	}
	return deleteFiles(ctx, tx, u.account, u.id)
}

// listUploads returns every version of a skill that was uploaded, deleted ones too,
// highest version first.
func listUploads(ctx context.Context, q database.Reader, account identity.AccountID, skillID string) ([]upload, error) {
	all, err := database.AllReadable(ctx, q, scanUpload, damagedUpload, `SELECT `+uploadColumns+` FROM custom_skills WHERE account_id = $1 AND skill_id = $2`, account, skillID)
	slices.SortFunc(all, compareUploads)
	return all, err
}

// compareUploads orders uploads by version, highest first.
func compareUploads(a, b upload) int {
	switch {
	case newer(a.manifest.Version, b.manifest.Version):
		return -1
	case newer(b.manifest.Version, a.manifest.Version):
		return 1
	}
	return 0
}

// latestUploads returns the highest version of each skill that is not deleted, ordered by
// id.
func latestUploads(ctx context.Context, q database.Reader, account identity.AccountID) ([]upload, error) {
	all, err := database.AllReadable(ctx, q, scanUpload, damagedUpload, `SELECT `+uploadColumns+` FROM custom_skills WHERE account_id = $1 AND deleted_at = 0 ORDER BY skill_id`, account)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b upload) int {
		return cmp.Or(strings.Compare(a.manifest.ID, b.manifest.ID), compareUploads(a, b))
	})
	return slices.CompactFunc(all, func(a, b upload) bool { return a.manifest.ID == b.manifest.ID }), nil
}

// sumUploads returns how many versions an account keeps, and the size of their files in
// bytes.
func sumUploads(ctx context.Context, q database.Reader, account identity.AccountID) (versions, size int64, err error) {
	type sum struct{ versions, size int64 }
	kept, err := database.One(ctx, q, func(r database.Row) (s sum, err error) { return s, r.Scan(&s.versions, &s.size) },
		`SELECT COUNT(*), COALESCE(SUM(size), 0) FROM custom_skills WHERE account_id = $1 AND deleted_at = 0`, account)
	return kept.versions, kept.size, err
}
