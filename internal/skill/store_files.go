package skill

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// storedFile is a file of an owner: of an installed skill or of an upload.
type storedFile struct {
	path, hash string
	data       []byte
}

// replaceFiles stores the files of an owner and deletes the files it had before.
func replaceFiles(ctx context.Context, tx *database.Tx, account identity.AccountID, owner string, files map[string][]byte) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM skill_files WHERE account_id = $1 AND owner_id = $2`, account, owner); err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		data := files[path]
		if data == nil {
			data = []byte{} // nil would be stored as NULL
		}
		hash := sha256Hex(data)
		if _, err := tx.ExecContext(ctx, `INSERT INTO skill_blobs (account_id, hash, data) VALUES ($1, $2, $3) ON CONFLICT (account_id, hash) DO NOTHING`, account, hash, data); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO skill_files (account_id, owner_id, path, hash) VALUES ($1, $2, $3, $4)`, account, owner, path, hash); err != nil {
			return err
		}
	}
	return deleteUnusedBlobs(ctx, tx, account)
}

func deleteFiles(ctx context.Context, tx *database.Tx, account identity.AccountID, owner string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM skill_files WHERE account_id = $1 AND owner_id = $2`, account, owner); err != nil {
		return err
	}
	return deleteUnusedBlobs(ctx, tx, account)
}

// deleteUnusedBlobs deletes the contents that no file refers to.
func deleteUnusedBlobs(ctx context.Context, tx *database.Tx, account identity.AccountID) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM skill_blobs WHERE account_id = $1 AND NOT EXISTS
		(SELECT 1 FROM skill_files f WHERE f.account_id = skill_blobs.account_id AND f.hash = skill_blobs.hash)`, account)
	tx.Erase()
	return err
}

// readFiles returns the files of an owner by path; none if it does not exist.
func readFiles(ctx context.Context, q database.Reader, account identity.AccountID, owner string) (map[string][]byte, error) {
	list, err := database.All(ctx, q, func(r database.Row) (f storedFile, err error) { return f, r.Scan(&f.path, &f.data) },
		`SELECT f.path, b.data FROM skill_files f JOIN skill_blobs b ON b.account_id = f.account_id AND b.hash = f.hash
		WHERE f.account_id = $1 AND f.owner_id = $2`, account, owner)
	if err != nil {
		return nil, fmt.Errorf("read files of %s: %w", owner, err)
	}
	files := make(map[string][]byte, len(list))
	for _, f := range list {
		files[f.path] = f.data
	}
	return files, nil
}

// readBlob returns a content by its hash. Errors: sql.ErrNoRows.
func readBlob(ctx context.Context, q database.Reader, account identity.AccountID, hash string) ([]byte, error) {
	data, err := database.One(ctx, q, database.Scalar[[]byte], `SELECT data FROM skill_blobs WHERE account_id = $1 AND hash = $2`, account, hash)
	if err != nil {
		return nil, fmt.Errorf("read skill file %s: %w", hash, err)
	}
	return data, nil
}
