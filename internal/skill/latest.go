package skill

import (
	"context"
	"fmt"
	"slices"

	"agento.host/agento/internal/identity"
)

// Latest returns the latest versions of installed skills, by the id of the installation, as
// far as they are known here: those of the catalog and of the account's uploads. A version with
// the same files is no later one. Only their service knows those of the registry and of GitHub.
func (s *Service) Latest(ctx context.Context, account identity.AccountID, installed []Installed) (map[string]string, error) {
	latest := map[string]string{}
	for _, i := range installed {
		if p, ok := s.catalog.Find(i.SkillID); ok && i.Trust == Verified {
			latest[i.ID] = p.Version
			if p.Digest == i.digest {
				latest[i.ID] = i.Version
			}
		}
	}
	if !slices.ContainsFunc(installed, func(i Installed) bool { return i.Trust == Custom }) {
		return latest, nil
	}
	uploads, err := latestUploads(ctx, s.store.db, account)
	if err != nil {
		return nil, fmt.Errorf("list custom skills: %w", err)
	}
	for _, u := range uploads {
		for _, i := range installed {
			if i.Trust == Custom && i.SkillID == u.manifest.ID {
				latest[i.ID] = u.manifest.Version
				if u.digest == i.digest { // an upgrade would change nothing
					latest[i.ID] = i.Version
				}
			}
		}
	}
	return latest, nil
}

// Update is an installed skill of which there is a later version.
type Update struct {
	Installed
	Agent  identity.AgentID
	Latest string
}

// Updates returns the installed skills of all agents of an account of which Latest knows a later
// version, at most limit.
func (s *Service) Updates(ctx context.Context, account identity.AccountID, limit int) ([]Update, error) {
	installed, err := s.store.ListEnabled(ctx, s.store.db, account)
	if err != nil {
		return nil, err
	}
	latest, err := s.Latest(ctx, account, installed)
	if err != nil {
		return nil, err
	}
	var all []Update
	for _, i := range installed {
		if v, ok := latest[i.ID]; ok && v != i.Version && len(all) < limit {
			all = append(all, Update{Installed: i, Agent: i.agent, Latest: v})
		}
	}
	return all, nil
}
