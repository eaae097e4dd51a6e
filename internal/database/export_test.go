package database

import (
	"context"
	"io/fs"
)

// MigrateWith is Migrate of a program with these migrations. step is called after each
// step that changes files.
func MigrateWith(ctx context.Context, path string, files fs.FS, step func(name string)) (Migrated, error) {
	known, err := readMigrations(files)
	if err != nil {
		return Migrated{}, err
	}
	return migrator{path: path, known: known, step: step}.run(ctx)
}

// OpenWith is Open of a program with these migrations.
func OpenWith(ctx context.Context, s Settings, files fs.FS) (*DB, error) {
	known, err := readMigrations(files)
	if err != nil {
		return nil, err
	}
	return open(ctx, s, known)
}

// Migrations returns the migrations of this program.
func Migrations() []migration { return embedded() }

// SQL returns the text of a migration.
func (m migration) SQL() string { return m.sql }

// Name returns the name of a migration.
func (m migration) Name() string { return m.name }

// Waiting returns how many transactions of GroupTx wait for their turn.
func (db *DB) Waiting() int {
	db.group.mu.Lock()
	defer db.group.mu.Unlock()
	return len(db.group.waiting)
}

// GroupBusy reports whether a transaction of GroupTx has its turn.
func (db *DB) GroupBusy() bool {
	db.group.mu.Lock()
	defer db.group.mu.Unlock()
	return db.group.busy
}
