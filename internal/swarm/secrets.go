package swarm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// MaxSecret is the longest credential, in bytes.
const MaxSecret = 4096

// spellings are the names of credentials that a swarm may share, in the form in
// which they are kept and in the other one. Channel tokens are not shared: two
// agents cannot both be one bot.
var spellings = map[string]string{
	"anthropicApiKey":   "anthropicApiKey",
	"anthropic_api_key": "anthropicApiKey",
	"openaiApiKey":      "openaiApiKey",
	"openai_api_key":    "openaiApiKey",
	"googleApiKey":      "googleApiKey",
	"google_api_key":    "googleApiKey",
}

// SecretNames lists which credentials a swarm shares, such as anthropicApiKey, in
// order. Their values can never be read. Faults: NotFound.
func (s *Service) SecretNames(ctx context.Context, accountID, id string) ([]string, error) {
	if err := s.Exists(ctx, s.DB, identity.AccountID(accountID), identity.SwarmID(id)); err != nil {
		return nil, err
	}
	names, err := s.Secrets.Names(ctx, s.DB, accountID, id)
	if err != nil {
		return nil, fmt.Errorf("list the secrets of swarm %s: %w", id, err)
	}
	return names, nil
}

// SetSecrets sets and removes credentials that a swarm's agents share; removing
// one that is not there is no error. Names may be spelled anthropicApiKey or
// anthropic_api_key. Faults: Invalid, NotFound.
func (s *Service) SetSecrets(ctx context.Context, accountID, actor, id string, set map[string]vault.Secret, remove []string) error {
	put, drop, err := checkSecrets(set, remove)
	if err != nil {
		return err
	}
	return s.DB.Tx(ctx, func(tx *database.Tx) error {
		w, err := find(ctx, tx, accountID, id)
		if err != nil {
			return err
		}
		if len(put) > 0 {
			if err := s.Secrets.Put(ctx, tx, accountID, id, put); err != nil {
				return err
			}
		}
		if err := s.Secrets.Delete(ctx, tx, accountID, id, drop...); err != nil {
			return err
		}
		told := map[string]any{"set": slices.Sorted(maps.Keys(put)), "deleted": drop}
		return s.tell(ctx, tx, w, "swarm.secrets_updated", actor, told)
	})
}

// checkSecrets returns what to set and remove under the names that are kept.
func checkSecrets(set map[string]vault.Secret, remove []string) (map[string]vault.Secret, []string, error) {
	fields := fault.Fields{}
	if len(set)+len(remove) == 0 {
		fields.Add("secrets", "must name a secret to set, unless deleteSecrets names one to remove")
	}
	put := map[string]vault.Secret{}
	for _, given := range slices.Sorted(maps.Keys(set)) {
		name, ok := spellings[given]
		_, twice := put[name]
		switch {
		case !ok:
			fields.Add("secrets", "%s", unknown)
		case twice:
			fields.Add("secrets."+given, "is given in both spellings")
		default:
			checkSecret(fields, "secrets."+given, set[given].Reveal())
			put[name] = vault.NewSecret(strings.TrimSpace(set[given].Reveal()))
		}
	}
	drop := []string{}
	for _, given := range remove {
		name, ok := spellings[given]
		if _, also := put[name]; also {
			fields.Add("deleteSecrets", "names %s, which secrets sets", name)
		}
		if !ok {
			fields.Add("deleteSecrets", "%s", unknown)
		} else if !slices.Contains(drop, name) {
			drop = append(drop, name)
		}
	}
	return put, drop, fields.Err()
}

// unknown does not repeat the name: somebody may have put the secret there.
const unknown = "must hold anthropicApiKey, openaiApiKey or googleApiKey only; a swarm shares provider credentials, and other secrets belong to an agent"

func checkSecret(fields fault.Fields, field, value string) {
	value = strings.TrimSpace(value)
	switch {
	case value == "":
		fields.Add(field, "must not be empty; name it in deleteSecrets to remove it")
	case len(value) > MaxSecret:
		fields.Add(field, "must have at most %d bytes", MaxSecret)
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }):
		fields.Add(field, "must have printable ASCII characters only, without spaces: it is sent in an HTTP header")
	}
}
