package database

import (
	"context"
	"fmt"
	"slices"
)

// accountBatch is how many rows of an account one transaction deletes, so that others do not
// wait long for the write lock.
const accountBatch = 200

// DeleteAccount deletes and erases what is left of an account: every row with its id in the
// column account_id, of whatever table. Whoever deletes an account calls it last, when nothing
// runs for the account any more. It looks the tables up, so that no new one can be forgotten;
// a package whose rows without that column belong to an account removes them itself. A call
// that was interrupted is repeated.
func (db *DB) DeleteAccount(ctx context.Context, account string) error {
	tables, err := db.accountTables(ctx)
	if err != nil {
		return fmt.Errorf("list the tables with rows of accounts: %w", err)
	}
	for _, t := range tables {
		for more := true; more; {
			err := db.Tx(UseReserve(ctx), "database.delete_account", func(ctx context.Context, tx *Tx) error {
				n, err := Exec(ctx, tx, t.deleteSome(), account)
				more = n == accountBatch && t.hasRowID
				if n > 0 {
					tx.Erase()
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("delete the rows of account %s in %s: %w", account, t.name, err)
			}
		}
	}
	return nil
}

// accountTable is a table with the column account_id.
type accountTable struct {
	name     string
	hasRowID bool
}

// deleteSome deletes some rows, and all of a table without row ids.
func (t accountTable) deleteSome() string {
	if !t.hasRowID {
		return `DELETE FROM ` + t.name + ` WHERE account_id = $1`
	}
	return fmt.Sprintf(`DELETE FROM %[1]s WHERE rowid IN (SELECT rowid FROM %[1]s WHERE account_id = $1 LIMIT %[2]d)`, t.name, accountBatch)
}

// accountTables returns the tables with the column account_id, each before those that its rows
// refer to.
func (db *DB) accountTables(ctx context.Context) ([]accountTable, error) {
	tables, err := All(ctx, db, func(r Row) (t accountTable, err error) { return t, r.Scan(&t.name, &t.hasRowID) },
		`SELECT t.name, NOT t.wr FROM pragma_table_list t JOIN pragma_table_info(t.name) c ON c.name = 'account_id' WHERE t.schema = 'main' AND t.type = 'table' ORDER BY t.name`)
	if err != nil {
		return nil, err
	}
	type reference struct{ from, to string }
	references, err := All(ctx, db, func(r Row) (f reference, err error) { return f, r.Scan(&f.from, &f.to) },
		`SELECT t.name, f."table" FROM pragma_table_list t JOIN pragma_foreign_key_list(t.name) f WHERE t.schema = 'main' AND f."table" <> t.name`)
	if err != nil {
		return nil, err
	}
	sorted := make([]accountTable, 0, len(tables))
	for len(tables) > 0 {
		next := slices.IndexFunc(tables, func(t accountTable) bool {
			return !slices.ContainsFunc(references, func(f reference) bool {
				return f.to == t.name && slices.ContainsFunc(tables, func(other accountTable) bool { return other.name == f.from })
			})
		})
		next = max(next, 0) // tables that refer to each other have no order
		sorted = append(sorted, tables[next])
		tables = slices.Delete(tables, next, next+1)
	}
	return sorted, nil
}
