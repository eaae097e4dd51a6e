package usage

import (
	"context"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// Names returns the names of an account's things, by their ids.
type Names func(ctx context.Context, account identity.AccountID) (map[string]string, error)

// Settings are what New needs.
type Settings struct {
	DB                   *database.DB
	Agents, Swarms, Keys Names
}

// Service reads what was counted.
type Service struct {
	db    *database.DB
	names map[Grouping]Names
}

// New returns a service.
func New(s Settings) *Service {
	return &Service{db: s.DB, names: map[Grouping]Names{ByAgent: s.Agents, BySwarm: s.Swarms, ByKey: s.Keys}}
}

// List returns the groups that a query selects, in order, with the names of what still exists.
// Names of groups are compared byte by byte, and days and hours are in the order of time.
func (s *Service) List(ctx context.Context, account identity.AccountID, query Query) ([]Row, error) {
	rows, err := List(ctx, s.db, account, query)
	if err != nil || len(rows) == 0 {
		return rows, err
	}
	names, err := s.Names(ctx, account, query.By)
	for i := range rows {
		rows[i].Name = names[rows[i].Group]
	}
	return rows, err
}

// Names returns the names of what rows of a grouping are about, by their ids.
func (s *Service) Names(ctx context.Context, account identity.AccountID, by Grouping) (map[string]string, error) {
	if s.names[by] == nil {
		return nil, nil
	}
	return s.names[by](ctx, account)
}
