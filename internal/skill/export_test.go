package skill

import (
	"context"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// DesiredFiles returns the files that the home of an agent should have, by path in the
// home.
func (s *Store) DesiredFiles(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) (map[string][]byte, error) {
	list, err := s.desiredFiles(ctx, q, account, agent)
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte, len(list))
	for _, f := range list {
		if files[f.path], err = readBlob(ctx, q, account, f.hash); err != nil {
			return nil, err
		}
	}
	return files, nil
}
